"""What customers write about their account and about devices: the core sentences of four intents."""

from __future__ import annotations

from taskloom.helpdesk.grammar import Wordings, wordings

ACCOUNT: dict[str, Wordings] = {
    "login_trouble": wordings(
        """
        I cannot log in to my account since {since}.
        I forgot my password and the reset mail does not come.
        The login page shows {error_code} when I enter my password.
        My account is locked after too many tries.
        The user name {customer} is not accepted when I log in.
        I reset my password on {since} but the new one does not work.
        The code for the login never arrives on my phone.
        How do I change the password of my account?
        I am {customer} and I am locked out of my account.
        Every time I sign in, I get {error_code} and am thrown out again.
        I have a new phone and cannot confirm my login any more.
        Your colleague {agent} reset my password, but I still can't log in.
        Please unlock my account, it has been blocked since {since}.
        I can't get into my profile, it says that my password is invalid.
        The sign-in page does not accept me any more.
        Please give {customer} access again, the account is blocked.
        """,
        """
        Signing in fails with {error_code}.
        I have no access to my profile since {since}, it says that the password is wrong.
        The link for a new password has expired, please send another; my name is {customer}.
        Two-step sign-in does not let me through.
        """,
        """
        My credentials are rejected with {error_code} whenever I try to get into my profile.
        I cannot get past the sign-in screen since {since}.
        The verification text message fails to reach me, so I can't log in.
        Could you restore access for {customer}? I no longer remember the secret word.
        {agent} gave me a temporary password, which the site refuses.
        I get {error_code} and a note that my password is invalid when I sign in to my account.
        """,
    ),
    "close_account": wordings(
        """
        Please delete my account.
        I want to close my account and have all my data removed.
        How do I delete my profile in your shop?
        My name is {customer} and I would like to close my account on {due_on}.
        I do not use the account any more, please close it.
        Please delete the account of {customer} in {ship_city}.
        I want you to remove my address and my card and to end my membership.
        I asked {agent} to delete my account and it is still there.
        Can I close my account while order {order_number} is still open?
        End my subscription and delete everything that you know about me.
        I opened a second account by mistake on {since}, please delete it.
        Close the account that belongs to {customer}, we are moving away from {ship_city}.
        I no longer shop with you, so cancel my membership.
        Please take my name out of your system.
        I want to leave your shop for good and have my profile deleted.
        Remove the user {customer} and all that belongs to it.
        """,
        """
        I would like to leave and have my profile erased.
        Kindly deactivate the account in the name of {customer}.
        Please wipe my personal data, I am terminating my membership on {due_on}.
        Where is the button for getting rid of my account?
        """,
        """
        Erase my registration with your company, {customer} is the name.
        I am done with being a member; please take me out of your records.
        Which steps are needed to shut down my profile for good by {due_on}?
        {agent} said that my user profile would vanish, but I can still see it.
        Please unregister me and purge whatever you have stored.
        My late father's membership has to be terminated, his name was {customer}.
        """,
    ),
}

TECHNICAL: dict[str, Wordings] = {
    "device_fault": wordings(
        """
        My {product} does not turn on any more.
        The {product} stopped working on {since} and shows {error_code}.
        The display of the {product} says {error_code}, what does it mean?
        The {product} makes a loud noise and then switches off.
        Since {since} the {product} has been losing its charge within an hour.
        The {product} that I bought on {bought_on} is already broken.
        I get {error_code} each time I start the {product}.
        The button of the {product} does nothing when I press it.
        The {product} gets hot and stops after five minutes.
        After the update the {product} freezes with {error_code}.
        The light of the {product} blinks red and it will not run.
        I bought the {product} in {shop_city} for {paid} and now it does not work.
        The {product} worked well until {since}, but now it is dead.
        The {product} is defective, it buzzes and does not react.
        My {product} crashed on {since} and does not start again.
        Something in the {product} rattles and the screen stays black.
        """,
        """
        The {product} keeps crashing and displays {error_code}.
        No sign of life from the {product} since {since}.
        Halfway through, the {product} quits on its own.
        The motor of the {product} hums but nothing moves.
        """,
        """
        My {product} has given up the ghost, it went silent on {since}.
        {error_code} flashes on the panel and the {product} refuses to run.
        The {product} shuts itself down moments after being powered up.
        The {product} malfunctions: it rattles, then halts with {error_code}.
        Purchased on {bought_on}, the {product} is defective already.
        There is an odd buzzing from the {product} and it hardly responds.
        """,
    ),
    "setup_help": wordings(
        """
        How do I set up the {product}?
        I need help with connecting the {product} to the wireless network.
        Which cable do I need for the {product}?
        The manual of the {product} does not say how to install it.
        Can you explain how to pair the {product} with my phone?
        Where do I find the app for the {product}?
        I do not understand how to set the clock of the {product}.
        How do I clean the {product} before I use it for the first time?
        Is there a video that shows how to put the {product} together?
        What are the first steps after unpacking the {product}?
        I bought the {product} on {bought_on} and don't know how to start it.
        How can I change the language of the {product}?
        {agent} explained how to install the {product}, but I did not get the last step.
        Please explain the installation of the {product} step by step.
        Where do I plug in the cable of the {product}?
        I need instructions for mounting the {product}.
        """,
        """
        Please guide me through the installation of the {product}.
        Which settings should I choose for the {product} at the beginning?
        Do you have instructions for mounting the {product} on a wall?
        I would like to know how the {product} is linked to the home network.
        """,
        """
        Could someone walk me through getting the {product} ready for use?
        I am puzzled by the assembly of the {product}, is there a step-by-step guide?
        What must I configure so that the {product} talks to my smartphone?
        The booklet of the {product} is in a foreign tongue; how is it fitted?
        Having purchased the {product} on {bought_on}, I have no idea which plug goes where.
        Any advice on activating the {product} for a beginner?
        """,
    ),
}
