"""One customer's message: its text, and everything that the tasks ask about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskloom.helpdesk.concerns import CONCERNS
from taskloom.helpdesk.facts import FACT_ROLES, FACTS
from taskloom.helpdesk.grammar import Dice, Piece, Span, Wordings, fill, join, mapped, noisy, roles_of, sentences
from taskloom.helpdesk.sentences import CLOSINGS, FILLERS, OPENINGS
from taskloom.helpdesk.templates_account import ACCOUNT, TECHNICAL
from taskloom.helpdesk.templates_money import BILLING, RETURNS
from taskloom.helpdesk.templates_shop import DELIVERY, ORDERS
from taskloom.helpdesk.urgency import CUES, urgency
from taskloom.helpdesk.words import draw_other

DOMAINS: dict[str, dict[str, Wordings]] = {
    "orders": ORDERS,
    "delivery": DELIVERY,
    "billing": BILLING,
    "returns": RETURNS,
    "account": ACCOUNT,
    "technical": TECHNICAL,
}
"""domain -> its intents -> their core sentences."""

DOMAIN_OF = {intent: domain for domain, intents in DOMAINS.items() for intent in intents}
INTENTS = tuple(sorted(DOMAIN_OF))


@dataclass(frozen=True)
class Plan:
    """What a message is made of beside its core, as probabilities or as what must be in it.

    Attributes:
        cues: the cues of urgency to voice.
        topics: the topics to raise, one sentence each.
        facts: how many facts to add.
        told: roles to add a fact about, unless the core names them.
        opening: probability of an opening.
        filler: probability of a sentence beside the point.
        closing: probability of a closing.
    """

    cues: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    facts: int = 0
    told: tuple[str, ...] = ()
    opening: float = 0.5
    filler: float = 0.4
    closing: float = 0.25


@dataclass(frozen=True)
class Message:
    """A written message.

    Attributes:
        text: what the customer wrote.
        spans: where values stand in the text.
        values: role -> value, before noise.
        intent: what the customer wants.
        core: the template that says so.
        urgency: from 0 to 1, by the rule of `urgency`.
        topics: what else is brought up.
    """

    text: str
    spans: tuple[Span, ...]
    values: Mapping[str, str]
    intent: str
    core: str
    urgency: float
    topics: tuple[str, ...]

    @property
    def domain(self) -> str:
        """The domain of the intent."""
        return DOMAIN_OF[self.intent]


def cores(intent: str, split: str) -> tuple[str, ...]:
    """Give the core sentences of an intent in a split."""
    return DOMAINS[DOMAIN_OF[intent]][intent][split]


def _valued(templates: Sequence[str], known: Mapping[str, str], split: str, dice: Dice) -> dict[str, str]:
    """Draw a value for every role of the templates, keeping those that are known; no value holds another."""
    values: dict[str, str] = {}
    for role in dict.fromkeys(role for template in templates for role in roles_of(template)):
        values[role] = known[role] if role in known else draw_other(role, split, dice, set(values.values()))
    return values


def _shouted(pieces: Sequence[Piece]) -> list[Piece]:
    """Write in capital letters and end in exclamation marks, which encoders without capitals see too."""
    loud = mapped(pieces, str.upper)
    loud[-1] = Piece(loud[-1].text.rstrip(".!?") + "!!!", loud[-1].role)
    return loud


def _facts(core: str, intent: str, split: str, dice: Dice, plan: Plan) -> list[str]:
    """Draw facts about roles that the core does not name."""
    told = [role for role in plan.told if role not in roles_of(core)]
    free = [role for role in FACT_ROLES[DOMAIN_OF[intent]] if role not in (*roles_of(core), *told)]
    return [dice.pick(FACTS[role][split]) for role in [*told, *dice.sample(free, plan.facts)]]


def compose(
    intent: str, split: str, dice: Dice, plan: Plan, *, known: Mapping[str, str] | None = None, core: str = ""
) -> Message:
    """Write a message.

    Args:
        intent: what it asks for.
        split: whose templates and values it uses.
        dice: where the draws come from.
        plan: what stands in it beside its core.
        known: values that roles must have; others are drawn.
        core: the core's template; drawn if empty.
    """
    core = core or dice.pick(cores(intent, split))
    facts = _facts(core, intent, split, dice, plan)
    values = _valued([core, *facts], known or {}, split, dice)
    head = fill(core, values)
    if "shouting" in plan.cues:
        head = _shouted(head)
    body = [head, *(fill(fact, values) for fact in facts)]
    if dice.chance(plan.filler):
        body.insert(dice.below(len(body) + 1), fill(dice.pick(FILLERS[split]), {}))
    extra = [fill(dice.pick(CONCERNS[topic][split]), {}) for topic in plan.topics]
    extra += [fill(dice.pick(CUES[cue][split]), {}) for cue in plan.cues if cue != "shouting"]
    body += dice.shuffle(extra)
    if dice.chance(plan.opening):
        body.insert(0, fill(dice.pick(OPENINGS[split]), {}))
    if dice.chance(plan.closing):
        body.append(fill(dice.pick(CLOSINGS[split]), {}))
    text, spans = join(noisy(sentences(body), dice, shouted="shouting" in plan.cues))
    return Message(text, spans, values, intent, core, urgency(plan.cues), tuple(sorted(plan.topics)))
