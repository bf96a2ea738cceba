"""What customers write about orders and deliveries: the core sentences of four intents."""

from __future__ import annotations

from taskloom.helpdesk.grammar import Wordings, wordings

ORDERS: dict[str, Wordings] = {
    "cancel_order": wordings(
        """
        Please cancel my order {order_number} for the {product}.
        I would like to cancel the {product} that I bought on {bought_on}.
        Can you stop order {order_number} before it ships to {ship_city}?
        I changed my mind about the {product}, so cancel it please.
        Cancel the purchase of the {product}, the one for {paid}.
        I ordered the {product} by mistake and want the order cancelled.
        Is it still possible to cancel order {order_number} from {bought_on}?
        My name is {customer} and I want to call off the order of the {product}.
        The {product} is not needed here after all, please drop order {order_number}.
        I clicked twice and now the {product} is on its way two times; cancel {order_number}.
        How do I cancel an order that has not been sent yet? It is {order_number}.
        We found the {product} cheaper in a shop in {shop_city}, so cancel ours.
        I spoke with {agent} about cancelling the {product}, but the order is still open.
        Please stop the order, I do not want the {product} any longer.
        I need to cancel everything that I ordered on {bought_on}.
        We won't buy the {product} after all, so do not ship it.
        Take order {order_number} back out of the system, I ordered it too early.
        """,
        """
        Do not send order {order_number}, I want to cancel the whole thing.
        Please void order {order_number}, I placed it on {bought_on} without thinking.
        I have to withdraw my order of the {product}.
        Scrap our order for the {product}, we will not be needing it.
        """,
        """
        I want to cancel what I ordered on {bought_on}, I don't need the {product}.
        Please stop my order {order_number}, I have no use for the {product} now.
        Could you undo the order {order_number} that I submitted on {bought_on}?
        I no longer wish to buy the {product}, please withdraw my order before it leaves the warehouse.
        This is {customer}: I am cancelling, make sure that the {product} is never shipped.
        Forget about order {order_number}, I am not buying it after all.
        """,
    ),
    "change_order": wordings(
        """
        Can I change my order {order_number} to another colour of the {product}?
        Please add one more {product} to order {order_number}.
        I want to change the delivery address of order {order_number} to {ship_city}.
        I picked the wrong size of the {product}; please change it before it is sent.
        Could you switch the {product} in my order for the larger model?
        I moved, so the {product} should go to my new address in {ship_city}.
        Please change the number of pieces in order {order_number} from one to three.
        My order of {bought_on} has the wrong street name, can you correct it?
        I would like to upgrade the {product} in order {order_number} to the newer version.
        Can the {product} be sent to my office in {ship_city} and not to my home?
        Take the second {product} out of order {order_number} but keep the rest.
        I am {customer} and need to edit what I ordered on {bought_on}.
        Please put gift wrapping on the {product} in order {order_number}.
        My order {order_number} needs two corrections: the street and the colour.
        Please update the address of my order, it is {ship_city} now.
        I would like three of the {product} and not only one, please change that.
        Can I still exchange an item in order {order_number} before you pack it?
        """,
        """
        Would you amend {order_number} so that the {product} comes in black?
        The address in my order {order_number} must be updated to {ship_city}.
        I would rather have two of the {product}, can you adjust my order?
        There is a slip in the house number that I gave for {order_number}, please fix it.
        """,
        """
        Please modify {order_number}: the {product} should be white, not grey.
        I typed in an old postcode for the {product}, could you redirect it to {ship_city}?
        Is it possible to swap the {product} on {order_number} for the smaller edition?
        My order of {bought_on} needs a change: I want four of the {product} and not two.
        {customer} here: I want a different colour for what I bought on {bought_on}, everything else stays.
        Let me replace one article in my order {order_number} while you are still packing it.
        """,
    ),
}

DELIVERY: dict[str, Wordings] = {
    "track_parcel": wordings(
        """
        Where is my {product}? It was due on {due_on}.
        Can you tell me where the parcel for order {order_number} is?
        My order {order_number} has not arrived yet.
        The tracking page of order {order_number} has not moved since {since}.
        When will the {product} be delivered to {ship_city}?
        I am still waiting for the {product} that I ordered on {bought_on}.
        The courier says that the {product} was delivered, but nobody here has it.
        Please send me the tracking link for the {product}.
        The {product} was meant to reach {ship_city} by {due_on} and nothing came.
        Has order {order_number} been shipped already?
        I was told by {agent} that the parcel would come on {due_on}, but it is not here.
        How many more days until the {product} gets to {ship_city}?
        The delivery of order {order_number} is late, what is going on?
        The {product} never arrived.
        I wonder where my parcel is, it should have come on {due_on}.
        The shipment with the {product} seems to be lost.
        Which day will you deliver order {order_number}?
        """,
        """
        Any news on the whereabouts of {order_number}? I expected it on {due_on}.
        The parcel with the {product} seems to be stuck somewhere on the way to {ship_city}.
        The {product} that I ordered on {bought_on} still has not come.
        What is the shipping status of {order_number}?
        """,
        """
        I wonder where the parcel with my {product} is, it should have turned up on {due_on}.
        Could you look up how far the package {order_number} has travelled?
        Nothing has shown up in {ship_city} so far, although {due_on} was the agreed day for the {product}.
        Which day can I expect the van with my {product}?
        The package {order_number} appears to be lost in transit.
        {customer} here, the {product} was shipped long ago and never reached me.
        """,
    ),
    "damaged_parcel": wordings(
        """
        The {product} arrived broken.
        The parcel for order {order_number} came in pieces and the {product} has a crack.
        My {product} was delivered to {ship_city} with a big dent.
        I opened the parcel on {since} and the {product} was smashed.
        The glass of the {product} was shattered when it came.
        The {product} in order {order_number} has scratches all over.
        The courier dropped the parcel and now the {product} is damaged.
        Half of the parts of the {product} were missing when I unpacked it.
        The {product} that I got is wet and bent, it must have happened during transport.
        Order {order_number} was delivered damaged, I have photos of it.
        I paid {paid} for the {product} and it came with a broken lid.
        You sent me the {product} with a torn cable and no manual.
        The {product} was cracked right out of the parcel, says {customer}.
        The parcel was crushed and what was inside is ruined.
        Something inside the {product} was loose and broken when I took it out of the box.
        I received order {order_number} in bad condition.
        A few screws and the cover were not in the parcel of the {product}.
        """,
        """
        The {product} was in ruins when the postman handed over the parcel.
        One corner of the {product} is crushed, it did not survive the trip to {ship_city}.
        What I unpacked on {since} was the {product} with its handle snapped off.
        Delivery {order_number} reached me incomplete and dented.
        """,
        """
        The casing of the {product} had split open by the time it got to {ship_city}.
        I received {order_number} in a terrible state: the {product} is chipped and bent.
        Transport must have been rough, since my {product} turned up with a fracture.
        On {since} the {product} was handed to me badly battered.
        Several bits of the {product} had come off inside the carton of {order_number}.
        The screws and the cover were absent when {order_number} was unpacked.
        """,
    ),
}
