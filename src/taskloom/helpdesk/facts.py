"""Sentences that add one more fact to a message, each with exactly one role."""

from __future__ import annotations

from taskloom.helpdesk.grammar import Wordings, wordings

FACTS: dict[str, Wordings] = {
    "product": wordings(
        """
        It is about the {product}.
        The item is the {product}.
        I mean the {product}, to be clear.
        I have the {product} at home.
        """,
        """
        What I am talking about is the {product}.
        The article in question: the {product}.
        """,
        """
        My request concerns the {product}.
        The thing I refer to is the {product}.
        All of this has to do with the {product}.
        """,
    ),
    "order_number": wordings(
        """
        My order number is {order_number}.
        The order is {order_number}.
        You find it under order number {order_number}.
        The confirmation mail says {order_number}.
        """,
        """
        In your system it is order {order_number}.
        Number of the order: {order_number}.
        """,
        """
        The reference on the receipt is {order_number}.
        It was filed as {order_number}.
        For your search, the order carries the number {order_number}.
        """,
    ),
    "bought_on": wordings(
        """
        I bought it on {bought_on}.
        The order was placed on {bought_on}.
        I ordered everything on {bought_on}.
        The purchase was on {bought_on}.
        """,
        """
        I made the purchase on {bought_on}.
        My order dates from {bought_on}.
        """,
        """
        I went shopping for it on {bought_on}.
        The date of the order was {bought_on}.
        It was on {bought_on} that I purchased it.
        """,
    ),
    "due_on": wordings(
        """
        Delivery was promised for {due_on}.
        It should come on {due_on}.
        I was told that it arrives on {due_on}.
        The planned day of delivery is {due_on}.
        """,
        """
        Arrival is scheduled for {due_on}.
        They said I would have it by {due_on}.
        """,
        """
        You announced it for {due_on}.
        The shipment is supposed to be here on {due_on}.
        I am to receive it on {due_on}.
        """,
    ),
    "since": wordings(
        """
        The trouble started on {since}.
        It has been like this since {since}.
        I first saw it on {since}.
        The problem began on {since}.
        """,
        """
        I noticed it for the first time on {since}.
        All was well until {since}.
        """,
        """
        From {since} on it has been going wrong.
        The difficulties appeared on {since}.
        This came to my attention on {since}.
        """,
    ),
    "charged_on": wordings(
        """
        The money was taken on {charged_on}.
        My bank shows the payment on {charged_on}.
        The card was charged on {charged_on}.
        The payment went through on {charged_on}.
        """,
        """
        It was debited on {charged_on}.
        The sum left my account on {charged_on}.
        """,
        """
        The withdrawal happened on {charged_on}.
        On {charged_on} the transaction was booked.
        My statement lists the debit under {charged_on}.
        """,
    ),
    "returned_on": wordings(
        """
        I sent it back on {returned_on}.
        The return left my house on {returned_on}.
        I gave the return to the post on {returned_on}.
        You received the return on {returned_on}.
        """,
        """
        I mailed it back on {returned_on}.
        The goods were returned on {returned_on}.
        """,
        """
        It travelled back to you on {returned_on}.
        I handed in the return on {returned_on}.
        The courier collected the return on {returned_on}.
        """,
    ),
    "ship_city": wordings(
        """
        The delivery address is in {ship_city}.
        It goes to {ship_city}.
        Please deliver to {ship_city}.
        I live in {ship_city}.
        """,
        """
        My home is in {ship_city}.
        The destination is {ship_city}.
        """,
        """
        It has to travel to {ship_city}.
        My flat is in {ship_city}.
        The address for the shipment lies in {ship_city}.
        """,
    ),
    "shop_city": wordings(
        """
        I got it at your shop in {shop_city}.
        The shop in {shop_city} sold it to me.
        I was in your branch in {shop_city}.
        It comes from your store in {shop_city}.
        """,
        """
        Your outlet in {shop_city} sold it.
        I picked it up at the store in {shop_city}.
        """,
        """
        I found it in your showroom in {shop_city}.
        The branch that served me is in {shop_city}.
        It was your dealer in {shop_city}.
        """,
    ),
    "customer": wordings(
        """
        My name is {customer}.
        The account is in the name of {customer}.
        I am {customer}.
        This is {customer} writing.
        """,
        """
        You have me on file as {customer}.
        The customer's name is {customer}.
        """,
        """
        I go by the name of {customer}.
        Please file this under {customer}, that is me.
        The contract belongs to me, {customer}.
        """,
    ),
    "agent": wordings(
        """
        I spoke with {agent} on your hotline.
        Your colleague {agent} took my call.
        The last mail came from {agent} in your team.
        {agent} from your service helped me before.
        """,
        """
        I chatted with {agent} of the support team.
        The person at your end was {agent}.
        """,
        """
        It was {agent} who dealt with me at your company.
        A member of your staff called {agent} knows about it.
        I have been corresponding with {agent} of your department.
        """,
    ),
    "paid": wordings(
        """
        I paid {paid} for it.
        In total I paid {paid}.
        You took {paid} from my card.
        My payment was {paid}.
        """,
        """
        It set me back {paid}.
        The payment came to {paid}.
        """,
        """
        I handed over {paid}.
        I spent {paid} on it.
        The transaction amounted to {paid}.
        """,
    ),
    "price": wordings(
        """
        The price on your page was {price}.
        It was offered for {price}.
        The advert said {price}.
        We had agreed on {price}.
        """,
        """
        The listed price was {price}.
        Your flyer quoted {price}.
        """,
        """
        The tag read {price}.
        According to your catalogue it costs {price}.
        I was quoted {price} beforehand.
        """,
    ),
    "refund": wordings(
        """
        The refund should be {refund}.
        I should get {refund} back.
        You owe me {refund}.
        I am waiting for {refund} from you.
        """,
        """
        I expect {refund} in return.
        The repayment is meant to be {refund}.
        """,
        """
        I am to be reimbursed {refund}.
        The money due to me is {refund}.
        My credit ought to be {refund}.
        """,
    ),
    "error_code": wordings(
        """
        The screen shows {error_code}.
        It says {error_code}.
        The message reads {error_code}.
        I see {error_code} on the display.
        """,
        """
        There is a note saying {error_code}.
        All I get is {error_code}.
        """,
        """
        {error_code} is what it reports.
        A warning pops up: {error_code}.
        It greets me with {error_code}.
        """,
    ),
}
"""role -> sentences that tell it."""

FACT_ROLES = {
    "orders": ("order_number", "bought_on", "due_on", "ship_city", "customer", "agent", "paid", "price"),
    "delivery": ("order_number", "bought_on", "due_on", "ship_city", "customer", "agent", "paid"),
    "billing": ("order_number", "bought_on", "charged_on", "shop_city", "customer", "agent", "paid", "price"),
    "returns": ("order_number", "bought_on", "returned_on", "shop_city", "customer", "agent", "paid", "refund"),
    "account": ("since", "ship_city", "customer", "agent", "error_code", "order_number"),
    "technical": ("since", "bought_on", "shop_city", "customer", "agent", "paid", "error_code", "order_number"),
}
"""domain -> the roles that its messages may add a fact about."""
