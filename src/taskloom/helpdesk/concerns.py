"""What else customers bring up beside their request: the topics of the multi-label task."""

from __future__ import annotations

from taskloom.helpdesk.grammar import Wordings, wordings

CONCERNS: dict[str, Wordings] = {
    "packaging": wordings(
        """
        There was far too much plastic around it.
        Please use less paper in your boxes.
        The box was three times too large.
        Why do you wrap everything in foil?
        Your packaging is bad for the environment.
        I had to throw away a mountain of cardboard.
        The box was nice and easy to open.
        Could you pack things without plastic bags?
        The wrapping was ugly and torn.
        Please use boxes that can be used again.
        The foam around it is impossible to recycle.
        It was packed with great care.
        """,
        """
        All that bubble wrap is a waste.
        You should pack in recycled cardboard.
        The box and the wrapping could be smaller.
        """,
        """
        So much plastic foam in the parcel is a shame for nature.
        The cardboard box was enormous for such a little thing.
        Reusable boxes instead of plastic film would be better.
        I like how neatly everything was wrapped and packed.
        """,
    ),
    "staff": wordings(
        """
        The man on the phone was rude to me.
        Your colleague in the chat was very friendly.
        The lady at the desk did not listen.
        The driver shouted at my wife.
        Please say thanks to the helpful agent of yesterday.
        Your people hang up when I ask something.
        The person I spoke to knew nothing.
        The service man was kind and quick.
        Somebody in your team insulted me.
        The worker at the counter was not polite.
        Your staff should be trained better.
        The young man in the shop took a lot of time for us.
        """,
        """
        The woman on the hotline laughed at me.
        Your employee was really patient.
        The gentleman who answered was impolite.
        """,
        """
        One of your workers behaved in a disrespectful way.
        The lad at the counter was charming and competent.
        Your operator was unfriendly and cut me off.
        The team member I talked with seemed badly trained.
        """,
    ),
    "price": wordings(
        """
        Everything has become so expensive.
        Other shops sell it for less.
        Your shipping costs are too high.
        I think that the price is not fair.
        Will it be cheaper at the end of the year?
        It cost half as much last year.
        For that much money I expect more.
        The price is really good, I must say.
        You raised your prices a lot.
        I can get it for less money elsewhere.
        That was a cheap and good offer.
        It is too much money for me.
        """,
        """
        You have put up the prices again.
        It costs a lot of money for what it is.
        A competitor offers it at a lower price.
        """,
        """
        Elsewhere I would pay considerably less.
        Your prices rose sharply this year.
        It is overpriced in my opinion.
        It was a bargain at that price, by the way.
        """,
    ),
    "website": wordings(
        """
        Your website is very slow.
        The search on your page finds nothing.
        I could not find the contact form on your site.
        The app closes when I open the menu.
        Your page does not work on my phone.
        The new design of the website is confusing.
        The pictures on your site do not load.
        I like your new app very much.
        Some links on your homepage are broken.
        The online shop is hard to use.
        The text on your web page is too small.
        Your mobile app crashes all the time.
        """,
        """
        The mobile app hangs all the time.
        Your homepage is a maze.
        The search filter of your online shop is useless.
        """,
        """
        Browsing your web page takes ages.
        Links on your internet page lead nowhere.
        The screen layout of your web shop is hard to read.
        The app on my phone keeps crashing.
        """,
    ),
    "privacy": wordings(
        """
        Why do you need my date of birth?
        I do not want my data to be shared with others.
        Please stop sending me advertising mails.
        How did you get my phone number?
        Who can see my personal data?
        I never agreed to your newsletter.
        I do not like it that you track what I look at.
        What do you store about me?
        I get calls from strangers since I ordered here.
        Please take my address off your mailing list.
        I am worried about my personal information.
        Do you give my details to other firms?
        """,
        """
        I get spam since I gave you my mail address.
        Do you sell data to other companies?
        I object to cookies and tracking.
        """,
        """
        Strangers call me, so somebody leaked my number.
        Take me off your marketing list.
        Which personal information about me do you keep on file?
        I am worried about who reads my confidential details.
        """,
    ),
    "warranty": wordings(
        """
        How long is the warranty?
        Is it still under warranty?
        Can I buy a longer guarantee?
        Does the guarantee cover the battery too?
        I lost the warranty card.
        Will a repair be free of charge within two years?
        The guarantee should be longer than one year.
        Do I keep the warranty if I open it myself?
        Who pays for repairs after the first year?
        I would like to extend the guarantee.
        Am I covered if it breaks next year?
        Is there a protection plan for it?
        """,
        """
        Does the warranty hold abroad?
        Until when is it guaranteed?
        Is there a three-year protection plan?
        """,
        """
        Am I covered if it fails after twelve months?
        The guarantee period seems rather short to me.
        Would the guarantee pay if the motor fails?
        Could I extend the cover to five years?
        """,
    ),
    "stock": wordings(
        """
        When will the blue one be back in stock?
        The spare part is always sold out.
        Do you still have the small size?
        It says that only one is left, is that right?
        Please tell me when you have the new model.
        Why is everything out of stock before the holidays?
        I have waited for months for the filters to be available.
        Will you sell the old version again?
        Are the accessories available again?
        How many of them are left?
        The item in green has been gone for weeks.
        When do you expect new supplies?
        """,
        """
        What I want is sold out all the time.
        Is the red one available again?
        When will more pieces be in stock?
        """,
        """
        The refills are never in stock.
        Has the grey variant been discontinued?
        How many of them do you still have in the storeroom?
        When are new accessories available again?
        """,
    ),
    "loyalty": wordings(
        """
        My bonus points are missing.
        Do I get a discount as an old customer?
        The voucher code does not work.
        How do I use my points?
        I have a gift card from my aunt, is it still valid?
        Do you have a discount for students?
        My points run out this year.
        I would like to join your bonus club.
        My coupon is not accepted.
        The rewards program does not show my balance.
        Is there something special for regular customers?
        My gift voucher was refused.
        """,
        """
        Is there a reward for loyal buyers?
        My coupon was refused.
        Where do I see my bonus balance?
        """,
        """
        The rewards that I collected have disappeared.
        Are pensioners entitled to a rebate?
        I hold a promotional coupon that I would like to redeem.
        Being a regular customer, I had hoped for a discount.
        """,
    ),
}
"""topic -> sentences that raise it."""

TOPICS = tuple(sorted(CONCERNS))
