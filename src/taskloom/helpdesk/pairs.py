"""Tasks about two or more texts: how alike two messages are, and which reply fits a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from taskloom.helpdesk.facts import FACT_ROLES
from taskloom.helpdesk.grammar import Deck, Dice, fill, join, roles_of
from taskloom.helpdesk.message import DOMAIN_OF, DOMAINS, INTENTS, Message, Plan, compose, cores
from taskloom.helpdesk.replies import REPLIES
from taskloom.helpdesk.sentences import REPLY_QUESTIONS
from taskloom.helpdesk.urgency import draw_cues
from taskloom.helpdesk.words import draw_other

CHOICES = 4
_URGENCY_GAP = 0.4
_RELATIONS = ("paraphrase", "same_product", "same_intent", "same_domain", "unrelated")
_TELLING = ("paraphrase", "same_product")


def likeness(one: Message, other: Message) -> float:
    """Grade how alike two messages are, from 0 to 5 in halves.

    Same intent: 3, and up to 2 more for the share of values that agree among the roles that both name; half a point
    less when their urgency differs by 0.4 or more. Same domain: 1, and up to 1 more. Otherwise 0, and up to a half.
    """
    shared = sorted(set(one.values) & set(other.values))
    agreement = sum(one.values[role] == other.values[role] for role in shared) / len(shared) if shared else 0.0
    if one.intent == other.intent:
        gap = 0.5 if abs(one.urgency - other.urgency) >= _URGENCY_GAP else 0.0
        grade = 3.0 + 2.0 * agreement - gap
    elif one.domain == other.domain:
        grade = 1.0 + agreement
    else:
        grade = 0.5 * agreement
    return round(grade * 2) / 2


def similarity_rows(dice: Dice, split: str) -> Callable[[], dict[str, Any]]:
    """Give what writes one row of the similarity task."""
    intents, relations = Deck(dice, INTENTS), Deck(dice, _RELATIONS)

    def row() -> dict[str, Any]:
        intent, relation = intents.deal(), relations.deal()
        cues = draw_cues(dice) if dice.chance(0.4) else ()
        told = (dice.pick(FACT_ROLES[DOMAIN_OF[intent]]),) if relation in _TELLING or dice.chance(0.3) else ()
        one = compose(intent, split, dice, Plan(cues, told=told, opening=0.25, filler=0.15, closing=0.1))
        if relation != "paraphrase" and dice.chance(0.5):
            cues = draw_cues(dice)
        plan = Plan(cues, told=told if relation in _TELLING else (), opening=0.25, filler=0.15, closing=0.1)
        known = _kept(one, relation, split, dice)
        intent = _other_intent(one, relation, dice)
        core = dice.pick(_naming(intent, set(one.values), one.core, split))
        other = compose(intent, split, dice, plan, known=known, core=core)
        return {"text": one.text, "text_pair": other.text, "label": likeness(one, other)}

    return row


def _other_intent(one: Message, relation: str, dice: Dice) -> str:
    if relation == "same_domain":
        return dice.pick([intent for intent in DOMAINS[one.domain] if intent != one.intent])
    if relation == "unrelated":
        return dice.pick([intent for intent in INTENTS if DOMAIN_OF[intent] != one.domain])
    return one.intent


def _kept(one: Message, relation: str, split: str, dice: Dice) -> Mapping[str, str]:
    """Give the values that the second message keeps, and those that it must have instead."""
    if relation == "paraphrase":
        return one.values
    taken = set(one.values.values())
    known = {role: draw_other(role, split, dice, taken) for role in one.values}
    subject = "product" if "product" in known else next(iter(known), "")
    if subject and (relation == "same_product" or (relation == "same_domain" and dice.chance(0.6))):
        known[subject] = one.values[subject]
    return known


def _naming(intent: str, roles: set[str], apart_from: str, split: str) -> list[str]:
    """Give the cores of an intent that name most of these roles, at least two of them."""
    shared = {core: len(set(roles_of(core)) & roles) for core in cores(intent, split) if core != apart_from}
    order = sorted(shared.values(), reverse=True)
    return [core for core, count in shared.items() if count >= order[1]]


def reply_rows(dice: Dice, split: str) -> Callable[[], dict[str, Any]]:
    """Give what writes one row of the reply task."""
    intents, places = Deck(dice, INTENTS), Deck(dice, range(CHOICES))

    def row() -> dict[str, Any]:
        cues = draw_cues(dice) if dice.chance(0.3) else ()
        message = compose(intents.deal(), split, dice, Plan(cues, opening=0.4, filler=0.3, closing=0.15))
        right = _reply(message.intent, message.values, split, dice)
        choices = [right]
        while len(choices) < CHOICES:
            wrong = _wrong_reply(message, split, dice)
            if wrong not in choices:
                choices.append(wrong)
        place = places.deal()
        choices[0], choices[place] = choices[place], choices[0]
        question = dice.pick(REPLY_QUESTIONS[split])
        return {"context": message.text, "question": question, "choices": choices, "label": place}

    return row


def _reply(intent: str, values: Mapping[str, str], split: str, dice: Dice) -> str:
    """Write a reply of an intent that names only known roles, rather one that names some."""
    known = [reply for reply in REPLIES[intent][split] if set(roles_of(reply)) <= set(values)]
    naming = [reply for reply in known if roles_of(reply)]
    return join(fill(dice.pick(naming if naming and dice.chance(0.7) else known), values))[0]


def _wrong_reply(message: Message, split: str, dice: Dice) -> str:
    """Write a reply to another intent, of the same domain or not, or one that names what the customer did not."""
    near = [intent for intent in DOMAINS[message.domain] if intent != message.intent]
    far = [intent for intent in INTENTS if DOMAIN_OF[intent] != message.domain]
    roll = dice.below(10)
    mixed_up = {role: draw_other(role, split, dice, {value}) for role, value in message.values.items()}
    if roll < 2:
        naming = [reply for reply in REPLIES[message.intent][split] if set(roles_of(reply)) & set(message.values)]
        naming = [reply for reply in naming if set(roles_of(reply)) <= set(message.values)]
        if naming:
            return join(fill(dice.pick(naming), mixed_up))[0]
    intent = dice.pick(near if roll < 5 else far)
    return _reply(intent, mixed_up if roll in {4, 9} else message.values, split, dice)
