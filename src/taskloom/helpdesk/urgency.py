"""How urgent a message is: the rule, and the sentences that carry its cues."""

from __future__ import annotations

from collections.abc import Iterable

from taskloom.helpdesk.grammar import Dice, Wordings, wordings

BASE = 0.40
"""The urgency of a message without any cue."""

WEIGHTS = {
    "deadline_near": 0.30,
    "deadline_far": 0.10,
    "no_hurry": -0.25,
    "harm": 0.25,
    "repeated": 0.15,
    "anger": 0.10,
    "polite": -0.10,
    "shouting": 0.10,
}
"""What each cue adds to BASE; `shouting` is a core in capital letters that ends in exclamation marks."""

_CALM = (("no_hurry",), ("no_hurry", "polite"), ("polite",), ("deadline_far", "polite"))
_PLAIN: tuple[tuple[str, ...], ...] = (
    (),
    ("deadline_far",),
    ("repeated",),
    ("anger",),
    ("repeated", "polite"),
    ("harm", "polite"),
)
_PRESSING = (
    ("deadline_near",),
    ("harm",),
    ("deadline_near", "polite"),
    ("deadline_near", "repeated"),
    ("harm", "anger"),
    ("harm", "repeated"),
    ("deadline_near", "harm"),
    ("deadline_near", "harm", "repeated"),
    ("deadline_near", "anger", "shouting"),
    ("harm", "repeated", "shouting"),
)

CUES: dict[str, Wordings] = {
    "deadline_near": wordings(
        """
        I need an answer today.
        This has to be solved by tonight.
        It must be done before noon.
        Please act at once, we leave tomorrow morning.
        I only have two hours left.
        The wedding is tomorrow and we need it for that.
        My flight goes this evening, so it has to be now.
        This is urgent.
        Please treat this as an emergency.
        Every minute counts.
        I can't wait until tomorrow.
        Help me right now, please don't delay.
        Please hurry, this is very urgent.
        I need immediate help.
        It has to happen within the next hour.
        Please be quick, the deadline is tonight.
        Time is short, answer immediately.
        I am in a hurry.
        I have no time to wait.
        We leave in a few hours and need it until then.
        """,
        """
        I need it settled within the hour.
        We need help immediately.
        The deadline is this afternoon, please be quick.
        There is no time to lose.
        Hurry up please, we need it tonight.
        I am in a great hurry and leave tonight.
        """,
        """
        Please respond immediately, time is running out.
        All of this must be fixed by the end of the day.
        Our event begins in three hours.
        It simply cannot wait any longer, please hurry.
        Act fast please, the guests arrive this evening.
        My train leaves in forty minutes.
        """,
    ),
    "deadline_far": wordings(
        """
        It would be good to have this done by next week.
        I need it before the end of the month.
        Please answer within the next days.
        We have a party in two weeks.
        I would like to hear from you this week.
        The school starts again in ten days.
        """,
        """
        An answer by the middle of next week would be fine.
        We need it for a trip later this month.
        Some day this week would suit me.
        """,
        """
        Ideally it is settled in the coming week.
        I leave on holiday in a fortnight.
        A response in the next few days would suit us.
        """,
    ),
    "no_hurry": wordings(
        """
        There is no hurry.
        Take your time.
        It is not urgent at all.
        Whenever you find a moment is fine.
        This can wait until next month.
        I am in no rush.
        Answer when it suits you.
        It is only a small thing, no stress.
        I can easily wait a few weeks.
        There is no time pressure.
        I have a lot of time.
        No need to answer quickly.
        Later is fine, it has low priority.
        Please do not rush because of me.
        """,
        """
        No need to rush this.
        It is not pressing.
        I have plenty of time.
        It's not urgent, so take as long as you need.
        Any time in the next months will do.
        """,
        """
        Please don't rush, later is perfectly okay.
        There is absolutely no time pressure.
        It's a low priority for me.
        You can take as long as you like.
        Next month is early enough.
        """,
    ),
    "harm": wordings(
        """
        My shop has to stay closed until this is solved.
        My grandmother needs it for her medicine.
        There was smoke and I am afraid of a fire.
        I can't pay my rent because of this.
        My baby could have been hurt.
        I am losing customers every hour.
        Water is running all over the floor.
        I got an electric shock.
        Someone is spending money from my account.
        I cannot work without it and lose my wages.
        My child is ill and depends on it.
        My hand was burned by it.
        Our business cannot open and loses money.
        A thief is using my card.
        My old mother needs it to breathe well.
        Sparks came out and my son was frightened.
        """,
        """
        I burned my hand because of it.
        We can't open the restaurant like this.
        A patient relies on it.
        It is flooding the kitchen.
        We are losing money every day.
        Somebody could get hurt by it.
        """,
        """
        Sparks came out and the carpet was scorched.
        My business is standing still and I lose income.
        An elderly person in our home cannot do without it.
        I almost got injured by it.
        My savings are being drained by a thief.
        The landlord will throw me out if this goes on.
        """,
    ),
    "repeated": wordings(
        """
        This is the third time that I write to you.
        I already called you twice.
        Nobody answered my last two mails.
        I have asked this again and again.
        I wrote last week and got no reply.
        You promised to call me back and never did.
        I have explained this to four of your people.
        It is the second time that this happens.
        I have contacted you many times before.
        My messages are being ignored.
        Your hotline never picks up when I call.
        I must repeat my story once more.
        """,
        """
        My previous three messages were ignored.
        I keep calling without success.
        You have not answered any of my mails.
        Once more I have to ask the same thing, nobody replied.
        """,
        """
        I have contacted you several times before about this.
        My earlier requests went unanswered.
        For the fourth time I am telling you the same story.
        I rang your hotline many times and nobody helped.
        Still no word from you after five mails.
        """,
    ),
    "anger": wordings(
        """
        This is a disgrace.
        I am really angry about it.
        What a terrible service.
        I am very disappointed.
        I have never seen such a bad company.
        I am going to tell everyone about this.
        It makes me furious.
        I have had enough of you.
        This is ridiculous.
        Your service is unacceptable and makes me mad.
        """,
        """
        I am fed up with you.
        That is simply not acceptable.
        Your service is awful.
        This makes me so angry.
        """,
        """
        I am outraged by the way you treat people.
        This is utterly ridiculous.
        Your conduct is appalling, I have had enough.
        I am extremely annoyed.
        I could scream.
        """,
    ),
    "polite": wordings(
        """
        Thank you so much for your help.
        I would be very grateful.
        Thanks a lot for your patience.
        I really appreciate your work.
        Thank you in advance for your kind support.
        You have always been so helpful, thank you.
        Sorry for the trouble and many thanks.
        I am thankful for every help.
        Your friendly support is lovely, thanks.
        That would be very kind of you.
        """,
        """
        Much appreciated.
        Many thanks for your kindness.
        I am thankful for any help.
        """,
        """
        Thank you kindly for your friendly assistance.
        Thanks ever so much.
        Your support is always lovely, thanks.
        I would value your kind help greatly.
        You are a great help, cheers.
        """,
    ),
}


def urgency(cues: Iterable[str]) -> float:
    """Score a message from 0 (can wait) to 1 (act now) by the cues that it holds, each counted once.

    >>> urgency([]), urgency(["no_hurry", "polite"]), urgency(["deadline_near", "harm", "repeated"])
    (0.4, 0.05, 1.0)
    """
    return round(min(1.0, max(0.0, BASE + sum(WEIGHTS[cue] for cue in sorted(set(cues))))), 2)


def draw_cues(dice: Dice) -> tuple[str, ...]:
    """Draw cues that go together: calm, plain and pressing messages are about equally frequent."""
    return dice.pick(dice.pick((_CALM, _PLAIN, _PRESSING)))
