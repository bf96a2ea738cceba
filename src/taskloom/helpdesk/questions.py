"""Questions about one role of a message, each split with wordings of its own."""

from __future__ import annotations

from taskloom.helpdesk.grammar import Wordings, wordings

QUESTIONS: dict[str, Wordings] = {
    "product": wordings(
        """
        Which product is the message about?
        What product does the customer have trouble with?
        Which item is it about?
        What did the customer buy?
        Name the product.
        """,
        """
        Which article is meant?
        What item does the customer write about?
        """,
        """
        Which device or article does the text mention?
        What is the name of the goods?
        What thing does the customer refer to?
        """,
    ),
    "order_number": wordings(
        """
        What is the order number?
        Which order is it about?
        Under which number is the order?
        What number does the order have?
        Give the number of the order.
        """,
        """
        Which order number is given?
        How is the order numbered?
        """,
        """
        What is the reference of the order?
        Which identifier does the order carry?
        Under what reference can the order be found?
        """,
    ),
    "bought_on": wordings(
        """
        When was the order placed?
        When did the customer buy it?
        On which day was it ordered?
        What is the date of the purchase?
        When was it bought?
        """,
        """
        On what date was the purchase made?
        When did the customer order?
        """,
        """
        Which day did the customer make the purchase?
        What is the order date?
        At what date was it purchased?
        """,
    ),
    "due_on": wordings(
        """
        When should it be delivered or done?
        For which day was it promised?
        By what date should it happen?
        When is it due?
        What day was it planned for?
        """,
        """
        By when is it expected?
        Which date was announced?
        """,
        """
        What is the due date?
        On which day is it supposed to happen?
        Which day had been agreed upon?
        """,
    ),
    "since": wordings(
        """
        Since when has there been trouble?
        When did the problem start?
        When did it happen first?
        On which day did the trouble begin?
        What day did things go wrong?
        """,
        """
        From which date on has it been a problem?
        When was the trouble first noticed?
        """,
        """
        At what date did the difficulties appear?
        How far back does the problem go?
        When did the customer become aware of the issue?
        """,
    ),
    "charged_on": wordings(
        """
        When was the money taken?
        On which day was the card charged?
        What is the date of the payment?
        When was the customer charged?
        On what day did the payment go through?
        """,
        """
        When was the sum debited?
        On which date was the account charged?
        """,
        """
        What day did the withdrawal take place?
        Which date does the transaction have?
        When did the debit occur?
        """,
    ),
    "returned_on": wordings(
        """
        When was it sent back?
        On which day was it returned?
        When did the return happen?
        What is the date of the return?
        When did the customer give it back?
        """,
        """
        On what date was it mailed back?
        When did the goods go back?
        """,
        """
        Which day did the article travel back?
        At what date did the return take place?
        When was the return handed over?
        """,
    ),
    "ship_city": wordings(
        """
        To which city should it be delivered?
        Where does the customer live?
        Which city is the delivery for?
        Where should the parcel go?
        In which city is the customer?
        """,
        """
        What city is the destination?
        Where is the customer's address?
        """,
        """
        Which town is the shipment bound for?
        Where is the customer based?
        What is the place of the customer's address?
        """,
    ),
    "shop_city": wordings(
        """
        In which city is the shop?
        Where is the shop that sold it?
        Which city is the store in?
        Where was it sold?
        In what city is your branch?
        """,
        """
        Where is the store?
        What city is the outlet in?
        """,
        """
        Which town is the dealer in?
        Where can the branch be found?
        What is the location of the store?
        """,
    ),
    "customer": wordings(
        """
        What is the customer's name?
        Who is the customer?
        Who wrote the message?
        In whose name is the account?
        What is the writer called?
        """,
        """
        Which name does the customer give?
        Who is writing?
        """,
        """
        By what name does the customer go?
        Who is the author of the request?
        How is the buyer called?
        """,
    ),
    "agent": wordings(
        """
        Which agent did the customer speak with?
        Who from the help desk is named?
        Who helped the customer before?
        Which colleague was involved?
        What is the name of the agent?
        """,
        """
        With whom at the company was the customer in contact?
        Which employee is mentioned?
        """,
        """
        Which member of staff does the text name?
        Who at the firm dealt with the customer?
        What is the support worker called?
        """,
    ),
    "paid": wordings(
        """
        How much was paid?
        How much did the customer pay?
        What amount was charged?
        How much money was taken?
        What did it cost the customer?
        """,
        """
        What sum did the customer pay?
        How high was the payment?
        """,
        """
        What did the customer spend?
        Which sum was handed over?
        How large was the payment?
        """,
    ),
    "price": wordings(
        """
        What price was offered?
        How much should it have cost?
        What was the price on the page?
        For how much was it advertised?
        Which price was agreed?
        """,
        """
        What was the listed price?
        What price had been quoted?
        """,
        """
        What was the original asking price?
        How much does the catalogue say?
        Which price had been announced?
        """,
    ),
    "refund": wordings(
        """
        How much should be paid back?
        How high is the refund?
        What refund does the customer wait for?
        How much money should the customer get back?
        What amount is owed to the customer?
        """,
        """
        What sum is to be returned to the customer?
        How much is the repayment?
        """,
        """
        What is the customer to be reimbursed?
        Which sum is due to the customer?
        How large is the outstanding credit?
        """,
    ),
    "error_code": wordings(
        """
        Which error is shown?
        What does the display say?
        What error code does the customer see?
        Which code appears?
        What is the error message?
        """,
        """
        What code is reported?
        Which error comes up?
        """,
        """
        What fault is indicated?
        Which warning pops up?
        How does the failure identify itself?
        """,
    ),
}
"""role -> questions whose answer is its value."""
