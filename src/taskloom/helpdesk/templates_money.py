"""What customers write about bills and returns: the core sentences of four intents."""

from __future__ import annotations

from taskloom.helpdesk.grammar import Wordings, wordings

BILLING: dict[str, Wordings] = {
    "wrong_charge": wordings(
        """
        You charged me {paid} twice for the {product}.
        My card was charged {paid} on {charged_on} and I do not know why.
        The bill for order {order_number} says {paid} but the {product} was offered for {price}.
        I was charged {paid} for something that I never bought.
        There are two payments of {paid} on my bank statement for order {order_number}.
        Why did you take {paid} from my account on {charged_on}?
        The discount of the {product} was not applied and I paid {paid}.
        I see a charge of {paid} that nobody in our family made.
        The price at the checkout was {price}, yet {paid} was taken from my card.
        I paid too much for the {product}: {paid} and not {price}.
        My name is {customer} and I dispute the charge of {charged_on}.
        The shipping fee for order {order_number} should have been free, but you billed it.
        Your shop in {shop_city} billed me {paid} for the {product} a second time.
        There is an unknown payment of {paid} on my card.
        You debited too much money on {charged_on}.
        My voucher for the {product} was ignored and the full price was charged.
        Please check the bill of order {order_number}, the amount is wrong.
        """,
        """
        An amount of {paid} was debited on {charged_on}, which must be an error.
        I have been overcharged for the {product}, it was advertised at {price}.
        Order {order_number} was paid once and collected two times.
        There is a strange booking of {paid} from your company on my credit card.
        """,
        """
        My card was debited with {paid} on {charged_on} although I did not purchase anything.
        The {product} was listed at {price}, so how come you deducted {paid}?
        My bank shows a duplicate transaction of {paid} connected with {order_number}.
        The sum that you collected for {order_number} is too high.
        {customer} here: an unknown payment of {paid} to your firm appears on my statement.
        I used a discount code for the {product} and was still charged the full {paid}.
        """,
    ),
    "invoice_copy": wordings(
        """
        Please send me the invoice for order {order_number}.
        I need a copy of the bill for the {product} that I bought on {bought_on}.
        Can I get a receipt over {paid} for my tax papers?
        The invoice of order {order_number} shows the wrong company name, please send a new one.
        Where can I download the invoice for the {product}?
        I never got a receipt for the {product}.
        Our accountant {customer} asks for the invoice of {bought_on}.
        Could you mail me a bill with the tax number for order {order_number}?
        I lost the receipt of the {product} from your shop in {shop_city}, can you print another?
        Please add the name of my company to the invoice for {paid}.
        My employer wants an invoice for the {product} before paying me back.
        I need all the invoices since {since} as files.
        The PDF of the bill for order {order_number} does not open, send it again please.
        I would like a written bill for what I bought on {bought_on}.
        Can you e-mail me the papers for order {order_number} so that I can do my taxes?
        There was no invoice in the parcel with the {product}.
        A second copy of the receipt would be useful, mine got lost.
        """,
        """
        May I have proof of purchase for the {product}, dated {bought_on}?
        A billing document for {order_number} is missing from my mail.
        Please issue the invoice over {paid} again, to the name of {customer}.
        For bookkeeping I require a receipt for the {product}.
        """,
        """
        Kindly forward the invoice for {order_number}, my bookkeeper is asking for it.
        I lost the invoice of the {product} from {bought_on}, can you provide a duplicate?
        For my tax return I need a bill that shows what I paid for {order_number}.
        I would like a written receipt showing {paid} and the name {customer}.
        Could the billing team e-mail me the document for the {product}, with VAT shown separately?
        No invoice was enclosed with {order_number}.
        """,
    ),
}

RETURNS: dict[str, Wordings] = {
    "return_item": wordings(
        """
        I want to return the {product} that I bought on {bought_on}.
        How do I send back the {product} from order {order_number}?
        The {product} is too big for my kitchen, can I return it?
        Please send me a return label for order {order_number}.
        I do not like the {product} and would like to give it back.
        Can I return the {product} in your shop in {shop_city}?
        How many days do I have to return order {order_number}?
        The {product} is not what I expected, I want to send it back.
        I got the {product} as a gift and would like to exchange it for something else.
        Who pays for the parcel if I return the {product}?
        My name is {customer} and I want to return everything from order {order_number}.
        The colour of the {product} does not fit, please take it back.
        I have not opened the {product} of {bought_on}, may I return it?
        Where do I send the {product} if I want to return it?
        I am not keeping the {product}, please pick it up.
        Is it too late to give back what I bought on {bought_on}?
        What do I have to do to exchange the {product}?
        """,
        """
        I do not want to keep the {product}, where should I send it?
        Could a courier in {ship_city} pick up the {product}? I am giving it back.
        I need the form for sending back {order_number}.
        The {product} does not suit us, how does an exchange work?
        """,
        """
        What is the procedure for handing the {product} back to you?
        I tried the {product} at home and it is not for me, may I bring it to the branch in {shop_city}?
        Please collect what I got with order {order_number}, I want to send all of it back.
        I bought the {product} on {bought_on}, is it too late to return it now?
        {customer} here, I would like to give back the unused {product} and take a different one.
        Which address do I use to mail the goods of {order_number} back?
        """,
    ),
    "refund_status": wordings(
        """
        I returned the {product} on {returned_on} and still have no refund.
        When do I get my money back for order {order_number}?
        You promised a refund of {refund} and nothing has come.
        I sent back the {product}, where is my refund of {refund}?
        The refund for order {order_number} is not on my bank account.
        How long does a refund take? I returned the {product} on {returned_on}.
        I was told by {agent} that {refund} would be paid back.
        You got the {product} back on {returned_on}, so please pay me the {refund}.
        My refund is {refund} but I only received a part of it.
        Has the refund for the {product} been sent already?
        I am {customer} and I am waiting for my refund for order {order_number}.
        The return was accepted on {returned_on}, yet the money is not here.
        Will the {refund} come to my card or as a voucher?
        Have you transferred the {refund} to me yet?
        I gave the {product} back long ago and was not paid yet.
        Please check when the money for my return comes.
        The repayment of {refund} is late.
        """,
        """
        My bank has not seen the refund of {refund} that you owe me for the {product}.
        Is the repayment for {order_number} on its way?
        You have had the {product} in your warehouse since {returned_on}, but I was not paid back.
        What happened to the reimbursement of {refund}?
        """,
        """
        The {product} went back to you on {returned_on} and I have yet to be reimbursed.
        Could you check whether the refund of {refund} for {order_number} was transferred?
        I have not got the {refund} back although you confirmed that the returned {product} reached you.
        On which day will the credit for the returned {product} appear?
        {agent} assured me that I would be compensated with {refund}; so far I see nothing.
        The repayment for my return {order_number} is outstanding.
        """,
    ),
}
