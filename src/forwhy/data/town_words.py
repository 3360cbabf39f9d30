"""The language of the little town: what its people want, what its places offer, how both are said.

Every phrase belongs to one hidden attribute (a quarter, a taste or a moment), so a phrase that is right
proves that the attribute was found.
"""

from dataclasses import dataclass

__all__ = ["MOMENTS", "QUARTERS", "TASTES", "Moment", "Quarter", "Taste"]


@dataclass(frozen=True)
class Quarter:
    """A part of town; people mostly stay in theirs and go next door (the list is a ring)."""

    name: str
    where: str
    """Completes "this café …"."""
    user: tuple[str, ...]
    """How a person's liking for it is put."""
    item: tuple[str, ...]
    """How a place there is described."""


@dataclass(frozen=True)
class Moment:
    """When, and with whom, somebody goes out."""

    name: str
    openings: tuple[str, str]
    """Two ways to begin an explanation; ``{want}`` is what the person wants."""
    user: tuple[str, ...]
    item: tuple[str, ...]


@dataclass(frozen=True)
class Taste:
    """What somebody is after, and what a place may have."""

    name: str
    want: str
    kinds: tuple[str, str, str]
    """Places that live from it."""
    offers: tuple[str, str, str, str]
    """What a place does about it, one for each moment; completes "this café …"."""
    user: tuple[str, ...]
    item: tuple[str, ...]


QUARTERS = (
    Quarter(
        "Harbour",
        "by the harbour",
        ("walks along the harbour", "sea air and fishing boats", "places by the harbour"),
        ("looks out on the harbour", "right by the harbour", "sea air at the door"),
    ),
    Quarter(
        "Old Town",
        "in the old town",
        ("cobbled lanes of the old town", "crooked old houses", "places in the old town"),
        ("hidden in an old town lane", "among the old town gables", "a crooked old house"),
    ),
    Quarter(
        "Market",
        "on the market square",
        ("the bustle of the market square", "stalls and market days", "places on the market square"),
        ("opens onto the market square", "busy on market days", "between the market stalls"),
    ),
    Quarter(
        "Riverside",
        "along the river",
        ("strolls along the river", "bridges and river boats", "places along the river"),
        ("terrace along the river", "a view of the river bridge", "down on the river bank"),
    ),
    Quarter(
        "Gardens",
        "at the botanical garden",
        ("afternoons near the botanical garden", "shady avenues and lawns", "places near the garden"),
        ("next to the botanical garden", "under the garden lime trees", "a gate to the botanical garden"),
    ),
    Quarter(
        "Hill",
        "up on the hill",
        ("climbing up the hill", "wide views from the hill", "places up on the hill"),
        ("wide view from the hill", "up the hill steps", "windy spot on the hill top"),
    ),
    Quarter(
        "Campus",
        "beside the university",
        ("student life by the university", "lecture halls and bicycles", "places beside the university"),
        ("full of university students", "beside the university library", "student prices near campus"),
    ),
    Quarter(
        "Station",
        "behind the railway station",
        ("the streets behind the railway station", "trains and platforms", "places close to the station"),
        ("behind the railway station", "in an old railway shed", "a minute from the platforms"),
    ),
)

MOMENTS = (
    Moment(
        "slow mornings",
        ("You like slow mornings with {want}", "Your quiet mornings are for {want}"),
        ("slow quiet mornings", "time alone before noon", "an unhurried start to the day"),
        ("calm in the morning", "opens early and quietly", "good for a quiet morning alone"),
    ),
    Moment(
        "family days",
        ("You show your children {want}", "On family days you look for {want}"),
        ("days out with the children", "family friendly places", "room for a pram"),
        ("children are welcome", "family tables and high chairs", "good with the children"),
    ),
    Moment(
        "gatherings",
        ("You love sharing {want} with friends", "You gather your friends around {want}"),
        ("gatherings with friends", "big tables and loud laughter", "sharing with a group of friends"),
        ("long tables for groups of friends", "lively and sociable", "good for a gathering"),
    ),
    Moment(
        "late evenings",
        ("You end late evenings with {want}", "Late at night you long for {want}"),
        ("late evenings out", "after dark in town", "candlelight at night"),
        ("open late at night", "candlelight after dark", "good late in the evening"),
    ),
)

TASTES = (
    Taste(
        "coffee",
        "good coffee",
        ("café", "roastery", "espresso bar"),
        (
            "pours patient filter coffee at a silent bar",
            "serves cocoa to the little ones beside espresso",
            "keeps a coffee pot going round the table",
            "makes dark flat whites by candlelight",
        ),
        ("cosy coffee places", "freshly roasted coffee", "a proper espresso", "careful filter coffee"),
        ("coffee roasted in house", "excellent espresso", "careful filter coffee", "cosy coffee corner"),
    ),
    Taste(
        "books",
        "old books",
        ("bookshop", "reading room", "antiquarian"),
        (
            "lets you read first editions in silence",
            "reads picture books aloud on a carpet",
            "runs a book club that argues happily",
            "lights green lamps over its novels",
        ),
        ("second-hand books", "quiet reading corners", "old novels", "browsing dusty shelves"),
        ("shelves of second-hand books", "quiet reading chairs", "rare old novels", "books to the ceiling"),
    ),
    Taste(
        "music",
        "live music",
        ("jazz cellar", "folk pub", "concert hall"),
        (
            "keeps a gentle pianist in the corner",
            "hands out drums for a singalong",
            "hosts a fiddle band that everyone joins",
            "fills its dim stage with smoky jazz",
        ),
        ("live jazz bands", "small concerts", "singing along", "a good fiddle tune"),
        ("a small stage for bands", "live jazz every week", "a piano in the corner", "great concert sound"),
    ),
    Taste(
        "seafood",
        "fresh seafood",
        ("oyster bar", "fish kitchen", "smokehouse"),
        (
            "smokes its own herring with great patience",
            "fries fish fingers shaped like whales",
            "piles mussels into pots for sharing",
            "opens oysters under red lamps",
        ),
        ("fresh fish and oysters", "mussels and white wine", "smoked herring", "the catch of the day"),
        ("the catch of the day", "oysters on ice", "mussels by the pot", "fish smoked on site"),
    ),
    Taste(
        "spice",
        "spicy food",
        ("noodle stall", "curry house", "taco counter"),
        (
            "ladles a calm and clear chilli broth",
            "offers mild curries next to fiery ones",
            "sets ten hot dishes in the middle",
            "serves fiery noodles under neon lights",
        ),
        ("fiery curries", "street food with chilli", "hot noodle soups", "the spicier the better"),
        ("fiery home-made chilli", "curries that burn", "steaming noodle bowls", "spicy street food"),
    ),
    Taste(
        "baking",
        "fresh pastries",
        ("bakery", "patisserie", "pie shop"),
        (
            "slides cardamom buns from a quiet oven",
            "lets small hands decorate their own biscuits",
            "bakes a plum cake big enough for everyone",
            "sells warm pies from a glowing window",
        ),
        ("warm cardamom buns", "crusty sourdough bread", "fine pastries", "anything with butter and plums"),
        ("cardamom buns at dawn", "sourdough from a stone oven", "delicate pastries", "famous plum cake"),
    ),
    Taste(
        "games",
        "board games",
        ("game café", "chess club", "games arcade"),
        (
            "sets out chess boards in a hushed room",
            "teaches easy dice games to children",
            "has strategy games for six loud players",
            "holds card tournaments under dim lamps",
        ),
        ("long board games", "a game of chess", "strategy and dice", "friendly tournaments"),
        (
            "hundreds of board games",
            "chess boards on every table",
            "dice and card nights",
            "game experts at hand",
        ),
    ),
    Taste(
        "plants",
        "green plants",
        ("greenhouse", "flower shop", "garden nursery"),
        (
            "waters its ferns while visitors sit quietly",
            "shows children how to pot a seedling",
            "swaps cuttings among cheerful gardeners",
            "glows with moonflowers and jasmine",
        ),
        ("rare house plants", "ferns and orchids", "pottering with seedlings", "the smell of wet soil"),
        ("ferns in every window", "rare orchids", "seedlings for sale", "an indoor jungle"),
    ),
    Taste(
        "crafts",
        "handmade crafts",
        ("pottery", "print workshop", "weaving studio"),
        (
            "offers a silent wheel and fresh clay",
            "lets children print their own posters",
            "teaches a whole group to weave",
            "fires its kiln under the stars",
        ),
        ("handmade bowls", "learning a craft", "linocuts and letterpress", "woven wool blankets"),
        ("hand-thrown pottery", "courses in weaving", "letterpress prints", "made by hand on site"),
    ),
    Taste(
        "films",
        "classic films",
        ("cinema", "film club", "picture house"),
        (
            "screens silent films in an empty hall",
            "shows cartoons with the lights half up",
            "ends each film in a lively debate",
            "projects dark thrillers on a velvet wall",
        ),
        ("black-and-white films", "small cinemas", "film noir", "talking about directors"),
        ("a velvet screening room", "classic films on reels", "a film noir season", "the old projector hums"),
    ),
)

ADJECTIVES = (
    "Copper", "Blue", "Crooked", "Golden", "Quiet", "Velvet", "Amber", "Silver", "Wandering", "Paper",
    "Ivory", "Scarlet", "Hidden", "Merry", "Salty", "Northern", "Little", "Painted", "Midnight", "Honest",
    "Green", "Dancing", "Winter", "Hollow",
)  # fmt: skip
NOUNS = (
    "Heron", "Lantern", "Kettle", "Fox", "Anchor", "Willow", "Compass", "Swan", "Button", "Feather",
    "Owl", "Barrel", "Thimble", "Sparrow", "Oak", "Ladder", "Moon", "Bell", "Otter", "Clover",
    "Mill", "Candle", "Hare", "Bridge",
)  # fmt: skip
FIRST_NAMES = (
    "Ada", "Bela", "Carla", "Dario", "Edda", "Finn", "Greta", "Hugo", "Ines", "Jonas", "Kaja", "Leon",
    "Mara", "Nils", "Olga", "Pavel", "Quirin", "Rosa", "Sami", "Tilda", "Umar", "Vera", "Wim", "Xenia",
    "Yara", "Zeno", "Amina", "Bruno", "Chiara", "Emre", "Fatou", "Goran", "Hana", "Ivo", "Juno", "Kenji",
    "Lucia", "Malik", "Noor", "Otto",
)  # fmt: skip
LAST_NAMES = (
    "Lindqvist", "Marlow", "Holm", "Okafor", "Brandt", "Sato", "Rossi", "Novak", "Dahl", "Moreau",
    "Haddad", "Keller", "Silva", "Jensen", "Petrov", "Adler", "Costa", "Nakamura", "Berg", "Mensah",
    "Vogel", "Larsen", "Duarte", "Weiss", "Ibsen", "Kaya", "Fontana", "Horvat", "Lopez", "Stern",
)  # fmt: skip
