"""The values that messages speak of: products, numbers, dates, cities, people, sums and error codes.

Every split has its own values and its own forms of numbers. A *role* is what a value does in a message (`bought_on`
and `due_on` are both dates); a *slot* is the kind of value that the slots task tags.
"""

from __future__ import annotations

from taskloom.helpdesk.grammar import Dice, Wordings, wordings

SLOTS = {
    "product": "product",
    "order_number": "order_number",
    "bought_on": "date",
    "due_on": "date",
    "since": "date",
    "charged_on": "date",
    "returned_on": "date",
    "ship_city": "city",
    "shop_city": "city",
    "customer": "person",
    "agent": "person",
    "paid": "amount",
    "price": "amount",
    "refund": "amount",
    "error_code": "error_code",
}
"""role -> slot."""


def _words(text: str) -> str:
    """Put words that are parted by commas one a line."""
    return "\n".join(text.replace("\n", " ").split(","))


PRODUCTS: Wordings = wordings(
    _words("""coffee machine, blender, vacuum cleaner, desk lamp, toaster, hair dryer, electric toothbrush, printer,
    keyboard, monitor, webcam, microphone, router, tablet, smart watch, fitness tracker, air fryer, rice cooker,
    food processor, slow cooker, baby phone, doorbell camera, space heater, ceiling fan, dehumidifier, sewing machine,
    record player, bluetooth speaker, power drill, lawn mower, dishwasher, microwave, e-reader, game console,
    alarm clock, bathroom scale, massage gun, garden pump"""),
    _words("""kettle, projector, soundbar, steam iron, juicer, thermostat, hedge trimmer, drone, ice maker,
    night light, radio, paper shredder"""),
    _words("""laptop, washing machine, air purifier, waffle iron, label writer, robot mop, electric shaver, headset,
    docking station, pressure washer, milk frother, car charger, freezer, telescope, electric guitar, scanner"""),
)

BRANDS: Wordings = wordings(
    _words("""Norvik, Brentalo, Quillon, Haskari, Lumenta, Dorvane, Pelligo, Wexmoor, Tavisto, Orrindale, Kestora,
    Mirabeck, Solvandi, Yarrowin"""),
    _words("Castrel, Venombra, Jundal, Fennimar, Ostvale"),
    _words("Zephrano, Grelland, Ivanta, Ruskello, Ambrook, Nolvesta, Thirlow"),
)

CITIES: Wordings = wordings(
    _words("""Lyon, Porto, Leeds, Graz, Turin, Bergen, Krakow, Seville, Bremen, Ghent, Malmo, Cardiff, Denver,
    Austin, Halifax, Perth, Osaka, Nagoya, Pune, Lima, Quito, Accra, Tunis, Izmir, Riga, Vilnius, Basel, Nantes,
    Utrecht, Boston, Calgary, Salt Lake City, New Delhi, Cape Town, San Diego, Santa Fe"""),
    _words("Dresden, Bilbao, Aarhus, Tampa, Kobe, Nairobi, Bristol, Verona, Ottawa, Buenos Aires, Palo Alto"),
    _words("""Lisbon, Zurich, Glasgow, Toulouse, Gdansk, Oslo, Phoenix, Adelaide, Montreal, Chennai, Lagos, Tallinn,
    Antwerp, Bologna, Hong Kong, San Jose, New Haven, Tel Aviv"""),
)

FIRST_NAMES: Wordings = wordings(
    _words("""Anna, Tomas, Priya, Kofi, Elena, Marcus, Yuki, Fatima, Lars, Chloe, Diego, Ingrid, Omar, Hannah, Pavel,
    Grace, Mateo, Leila, Oscar, Nadia, Felix, Amara, Victor, Sofia, Henrik, Rosa, Daniel, Mei, Stefan, Joana"""),
    _words("Bruno, Carla, Dmitri, Eun, Farid, Greta, Hugo, Imani, Jonas, Katya"),
    _words("""Wendy, Rafael, Astrid, Samir, Noemi, Callum, Zainab, Pieter, Lucia, Takeshi, Beatriz, Edwin, Shreya,
    Magnus, Olivia"""),
)

LAST_NAMES: Wordings = wordings(
    _words("""Keller, Novak, Okafor, Lindqvist, Moreau, Tanaka, Haddad, Romero, Fischer, Kowalski, Mendes, Jensen,
    Patel, Byrne, Rossi, Andersen, Demir, Castillo, Hughes, Vega, Morgan, Suzuki, Weber, Dubois"""),
    _words("Abbott, Bianchi, Carlsen, Eriksen, Gupta, Hartmann, Iversen, Juarez"),
    _words("""Whitfield, Sandoval, Nakamura, Osei, Petrov, Quinlan, Reyes, Schubert, Thorne, Ulrich, Vasquez,
    Yilmaz"""),
)

MONTHS: Wordings = wordings(
    _words("January, March, April, June, July, October"),
    _words("May, November"),
    _words("February, August, September, December"),
)

WEEKDAYS: Wordings = wordings(
    _words("Monday, Tuesday, Friday"), _words("Wednesday"), _words("Thursday, Saturday, Sunday")
)

# Forms of numbers: 9 stands for a digit, @ for a letter, everything else for itself.
ORDER_FORMS: Wordings = wordings(
    _words("#99999, @@-99999, 99-99999, 99999999, ORD99999, @99-9999"),
    _words("99/9999-9, @@@99.999, N:999999"),
    _words("9999-@@, 99@@9999, #9-999-99, 999.999.99, @@/9999/99"),
)

ERROR_FORMS: Wordings = wordings(
    _words("E999, ERR-99, 0x9@99, E-99, code 99, error 4999"),
    _words("F:99, no. 99-9, 9@-999"),
    _words("W9@, FAULT-9, 9.99.9, C-9-99, stop 9999, code 9@9"),
)

AMOUNT_FORMS: Wordings = wordings(
    _words("$99.99, $999, 99 dollars, USD 999.99, 99.99 dollars"),
    _words("€99.99, 99 euros, 999 EUR"),
    _words("£99.99, 99 pounds, CHF 99.90, 999 francs, 9999 yen"),
)

_FORMS = {"order_number": ORDER_FORMS, "error_code": ERROR_FORMS, "amount": AMOUNT_FORMS}
_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
_ENDINGS = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd"}


def _number(form: str, dice: Dice) -> str:
    """Write a number in its form; the first digit of all is never 0."""
    written = ""
    for sign in form:
        if sign == "9":
            written += str(1 + dice.below(9) if not any(one.isdigit() for one in written) else dice.below(10))
        else:
            written += dice.pick(_LETTERS) if sign == "@" else sign
    return written


def _date(split: str, dice: Dice) -> str:
    day, month, weekday = 1 + dice.below(28), dice.pick(MONTHS[split]), dice.pick(WEEKDAYS[split])
    ending = _ENDINGS.get(day, "th")
    forms = (f"{day} {month}", f"{month} {day}", f"the {day}{ending} of {month}", f"{weekday} {day} {month}")
    return weekday if dice.chance(0.15) else dice.pick(forms)


def _person(split: str, dice: Dice) -> str:
    first = dice.pick(FIRST_NAMES[split])
    return f"{first} {dice.pick(LAST_NAMES[split])}" if dice.chance(0.6) else first


def _product(split: str, dice: Dice) -> str:
    product = dice.pick(PRODUCTS[split])
    return f"{dice.pick(BRANDS[split])} {product}" if dice.chance(0.4) else product


def draw(role: str, split: str, dice: Dice) -> str:
    """Draw a value of a role from the values of a split."""
    slot = SLOTS[role]
    if slot == "product":
        return _product(split, dice)
    if slot == "city":
        return dice.pick(CITIES[split])
    if slot == "person":
        return _person(split, dice)
    if slot == "date":
        return _date(split, dice)
    return _number(dice.pick(_FORMS[slot][split]), dice)


def draw_other(role: str, split: str, dice: Dice, taken: set[str]) -> str:
    """Draw a value that no other role of the message holds, in whole or in part."""
    while True:
        value = draw(role, split, dice)
        if not any(value.lower() in other.lower() or other.lower() in value.lower() for other in taken):
            return value


VALUES: dict[str, Wordings] = {
    "product": PRODUCTS,
    "brand": BRANDS,
    "city": CITIES,
    "first_name": FIRST_NAMES,
    "last_name": LAST_NAMES,
    "month": MONTHS,
    "weekday": WEEKDAYS,
    "order_number": ORDER_FORMS,
    "error_code": ERROR_FORMS,
    "amount": AMOUNT_FORMS,
}
"""Kind of value -> what each split draws it from."""
