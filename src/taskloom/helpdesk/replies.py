"""What a good agent writes back, by intent; a reply names only roles that the customer's message names."""

from __future__ import annotations

from taskloom.helpdesk.grammar import Wordings, wordings

REPLIES: dict[str, Wordings] = {
    "cancel_order": wordings(
        """
        I have cancelled order {order_number}, nothing will be sent.
        Your order of the {product} is cancelled and you will not be charged.
        The order is cancelled, we stopped it in time.
        I cancelled the {product} for you before it left our house.
        The cancellation is done, you get a confirmation by mail.
        """,
        """
        Done, {order_number} has been called off.
        We will not send the {product}, the order is off.
        The order has been withdrawn as you asked.
        """,
        """
        Consider {order_number} annulled, it will stay in our warehouse.
        The purchase of the {product} has been undone.
        We pulled the order, so nothing is going to leave our depot.
        """,
    ),
    "change_order": wordings(
        """
        I have changed order {order_number} as you wanted.
        We changed your order of the {product}, please check the new confirmation.
        Your new choice is saved, the rest of the order stays the same.
        The order with the {product} now has the new details.
        The change is made and the parcel goes out with it.
        """,
        """
        Order {order_number} is updated with your wishes.
        I adjusted the order of the {product}.
        We edited the order, have a look at the new version.
        """,
        """
        Your wishes for {order_number} have been entered, here is the revised summary.
        The {product} on your order was modified accordingly.
        The details have been altered, nothing else is affected.
        """,
    ),
    "track_parcel": wordings(
        """
        Order {order_number} is on the way, here is the tracking link.
        Your {product} is with the courier and comes within two days.
        The parcel is in the sorting centre, it will be delivered soon.
        I asked the courier where the {product} is and will tell you.
        The delivery is late, the courier will bring it tomorrow.
        """,
        """
        Parcel {order_number} is out for delivery.
        The {product} is on the road and should reach you shortly.
        According to the courier it arrives the day after tomorrow.
        """,
        """
        Our carrier has located {order_number}, it is a day away from you.
        The van with your {product} will call at your door soon.
        Your package was held up in a depot and is moving again.
        """,
    ),
    "damaged_parcel": wordings(
        """
        I am sorry that the {product} came broken, we send you a new one.
        Please send us photos of the damage to order {order_number}.
        We replace what was damaged on the way, free of charge.
        A new {product} for the broken one leaves our house today.
        I told the courier about the damage and we will send the missing parts.
        """,
        """
        We regret the damage, a replacement for the {product} is being packed.
        For the broken delivery {order_number} please send a picture.
        The missing or broken parts will be replaced.
        """,
        """
        How sad that the {product} suffered in transport, a fresh one is coming.
        A snapshot of what happened to {order_number} will speed up the replacement.
        We make up for the harm done in transit with a new unit.
        """,
    ),
    "wrong_charge": wordings(
        """
        You are right, we charged too much for order {order_number} and correct it.
        The charge for the {product} was a mistake, we give the difference back.
        I see the double payment and have cancelled one of them.
        I have checked the charge of {paid} and it will be corrected.
        The payment was booked wrongly, I have told our bank.
        """,
        """
        The extra charge for {order_number} has been reversed.
        We billed the {product} at the wrong price and fix it.
        The booking on your card was an error of ours.
        """,
        """
        The duplicate transaction for {order_number} is being reversed.
        The {product} was deducted at an incorrect rate, we put that right.
        Our finance team struck out the mistaken debit on your card.
        """,
    ),
    "invoice_copy": wordings(
        """
        The invoice for order {order_number} is in your mail now.
        I attached the receipt for the {product}.
        You find all your invoices in your account under documents.
        Here is a copy of the bill for the {product} with our tax number.
        I sent the invoice again as a file.
        """,
        """
        Please find the bill of {order_number} attached.
        Your proof of purchase for the {product} is on its way by mail.
        The billing document was issued again.
        """,
        """
        The paperwork belonging to {order_number} was e-mailed to you.
        Enclosed is a duplicate of the sales slip of the {product}.
        Our bookkeeping has prepared the document, VAT is listed.
        """,
    ),
    "return_item": wordings(
        """
        Here is the return label for order {order_number}.
        You can send the {product} back within thirty days, it costs nothing.
        Put the item into any parcel, stick the label on it and bring it to the post.
        You may give the {product} back in each of our shops.
        Of course you can return it, fill in the form that I attached.
        """,
        """
        To give back {order_number}, print the form below.
        The {product} may be posted back to us free of charge.
        An exchange is possible within a month, use the attached sticker.
        """,
        """
        Use the enclosed voucher for mailing {order_number} back.
        We will gladly accept the {product} at any branch.
        Sending goods back is free, a courier collects them at your door.
        """,
    ),
    "refund_status": wordings(
        """
        The refund for order {order_number} was sent to your bank.
        Your money for the {product} will be on your account in three days.
        We have got your return and pay the refund this week.
        I have asked our bank why the refund of {refund} takes so long.
        Your refund goes to the card that you paid with.
        """,
        """
        We transferred the money for {order_number} back to you.
        The repayment for the {product} is being processed.
        You will see the reimbursement within a few days.
        """,
        """
        The reimbursement of {order_number} was initiated, banks take a little while.
        The credit for the {product} that you returned is under way.
        Accounting has released your repayment, it should appear shortly.
        """,
    ),
    "login_trouble": wordings(
        """
        I have sent you a new link to set your password.
        Your account is unlocked, please log in again.
        Please delete the cookies of your browser and then log in.
        I turned off the code on the phone, so that you can sign in now.
        The error {error_code} means that the password has expired, here is a new link.
        """,
        """
        You can sign in again, the block is gone.
        A fresh link for the password is in your mail.
        Against {error_code} it helps to set a new password.
        """,
        """
        Access to your profile has been restored, choose another passcode.
        We lifted the lock, kindly enter your credentials afresh.
        The notice {error_code} vanishes once you renew your credentials.
        """,
    ),
    "close_account": wordings(
        """
        Your account will be deleted within a week, with all your data.
        I have closed the account, we are sorry to see you go.
        Please confirm that we may delete your profile for good.
        The account of {customer} is closed.
        Your membership ends today and your data are removed.
        """,
        """
        Your profile has been erased as you wished.
        We ended the membership of {customer}.
        The account is deactivated, you can come back any time.
        """,
        """
        You have been taken out of our records for good.
        The registration of {customer} was wiped.
        Your user profile is shut down, farewell and all the best.
        """,
    ),
    "device_fault": wordings(
        """
        Please unplug the {product} for ten minutes and start it again.
        It seems that the {product} is broken, we will repair it.
        The error {error_code} means that the device is too hot.
        Our workshop will look at your device, please bring it in.
        Hold the power button for ten seconds, that restarts the {product}.
        """,
        """
        A restart often brings the {product} back to life.
        The fault should be seen by a technician, I booked a repair.
        {error_code} points to a worn part, we will exchange it.
        """,
        """
        Try a factory reset of the {product}; if it stays dead we mend it.
        {error_code} is a sensor failure that our engineers can sort out.
        This sounds like a defect of the motor or the battery, our workshop will examine it.
        """,
    ),
    "setup_help": wordings(
        """
        Here is the guide that shows how to set up the {product}.
        Download our app, choose the {product} and follow the steps.
        Connect the cable first and then press the button until the light turns blue.
        In this video we show how to install the {product}.
        You find the manual in your language on our help page.
        """,
        """
        The quick start guide of the {product} is attached.
        Plug it in, open the app and choose your network.
        We can install the {product} together on the phone.
        """,
        """
        These illustrated instructions take you through assembling the {product}.
        Begin with the plug, then let your smartphone search for the {product}.
        A tutorial for beginners is linked below, it covers every step.
        """,
    ),
}
"""intent -> replies that fit it."""
