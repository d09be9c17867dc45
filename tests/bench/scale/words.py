"""Names, institutions, countries and sentences, in several scripts, for the people in `bench scale`."""

from __future__ import annotations

NAMES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("Ada", "Grace", "Alan", "Maria", "José", "Zoë", "Jürgen", "Søren", "Łucja", "Aoife", "Nils", "Chloé", "Tom", "Ines"),
        ("Lovelace", "Hopper", "García", "Müller", "Nguyễn", "O'Brien", "Kowalski", "Sørensen", "Silva", "Dubois", "Smith",
         "Rossi", "Novák", "Öztürk", "van Dijk", "Andersson", "Jones", "Patel", "Okafor", "Mbeki"),
    ),
    (
        ("伟", "芳", "娜", "秀英", "敏", "静", "丽", "强", "磊", "洋", "艳", "勇", "军", "杰"),
        ("王", "李", "张", "刘", "陈", "杨", "赵", "黄", "周", "吴", "徐", "孙"),
    ),
    (("민수", "서연", "지훈", "민준", "하은", "도윤", "수빈", "예준"), ("김", "이", "박", "최", "정", "강", "조", "윤")),
    (
        ("Анна", "Иван", "Ольга", "Дмитрий", "Наталья", "Сергей", "Елена", "Павел"),
        ("Иванов", "Смирнова", "Кузнецов", "Попова", "Шевченко", "Ковальчук", "Петров", "Соколова"),
    ),
    (("محمد", "فاطمة", "أحمد", "ليلى", "يوسف", "مريم"), ("الحسن", "خان", "السيد", "العلي", "حداد", "منصور")),
    (("さくら", "健太", "陽子", "大輔", "美咲", "翔"), ("佐藤", "鈴木", "高橋", "田中", "伊藤", "渡辺")),
)  # fmt: skip
SCRIPTS = (0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 5)  # how often each of them is used
COUNTRIES = (
    "US", "US", "US", "CN", "CN", "IN", "DE", "GB", "FR", "KR", "JP", "CA", "BR", "RU", "NL", "IT", "ES", "PL", "SE", "CH",
    "TR", "VN", "NG", "ZA", "EG", "SA", "IR", "PK", "MX", "AU", "SG", "DK", "NO", "FI", "UA", "CZ", "AT", "BE", "IL", "AR",
)  # fmt: skip
PLACES = (
    "Aarhus", "Beijing", "Berlin", "Bologna", "Cairo", "Cambridge", "Cape Town", "Daejeon", "Delft", "Edinburgh", "Hanoi",
    "Helsinki", "Kraków", "Kyiv", "Lagos", "Lausanne", "Lyon", "Madrid", "Melbourne", "Montréal", "Mumbai", "Oslo", "Prague",
    "Riyadh", "Saarbrücken", "Seattle", "Seoul", "Shanghai", "Singapore", "São Paulo", "Tallinn", "Tokyo", "Toronto", "Uppsala",
    "Valencia", "Vienna", "Warsaw", "Wuhan", "Zürich", "Łódź",
)  # fmt: skip
SCHOOLS = (
    "University of {}", "Technical University of {}", "{} Institute of Technology", "{} Research Centre", "{} Medical School",
    "Academy of Sciences, {}", "{} AI Lab", "Polytechnic of {}", "National Laboratory, {}", "{} State University",
)  # fmt: skip
FAMOUS = (
    "清华大学",
    "北京大学",
    "한국과학기술원",
    "서울대학교",
    "東京大学",
    "МГУ",
    "جامعة القاهرة",
    "ETH Zürich",
    "MIT",
)
INSTITUTIONS = tuple(school.format(place) for place in PLACES for school in SCHOOLS) + FAMOUS
USES = (
    "Research on instruction following in {}.",
    "We compare open models for {} and publish the results.",
    "Teaching a course about {} at our institute.",
    "Academic research: evaluation of {} with native speakers.",
    "Fine-tuning for {}; research only, no commercial use.",
    "A study of how models treat {} in low-resource languages.",
)
SUBJECTS = (
    "translation", "summarisation", "clinical notes", "legal texts", "dialogue", "code generation", "question answering",
    "speech", "bias", "toxicity", "education", "agriculture", "chemistry", "retrieval", "reasoning", "long documents",
)  # fmt: skip
COMMON, RARE, NOTHING = "research", "palaeography", "zzqxvw"
RARE_USE = "Reading medieval hands: palaeography of charters."
WORDS = (
    "Please say which data you will use.",
    "The intended use is not permitted by the licence.",
    "We could not confirm your institution: write from its address.",
    "Please describe the study in two or three sentences.",
)


def name_of(number: int) -> tuple[str, str]:
    """Return the first and last name of the person with this number, always the same."""
    firsts, lasts = NAMES[SCRIPTS[number % len(SCRIPTS)]]
    mixed = number * 2_654_435_761 % 2**32
    return firsts[mixed % len(firsts)], lasts[(mixed >> 12) % len(lasts)]


def institution_of(number: int) -> str:
    """Return the institution of the person with this number; a few are very common."""
    mixed = number * 2_246_822_519 % 2**32
    return (
        INSTITUTIONS[-(mixed % len(FAMOUS)) - 1]
        if mixed % 11 == 0
        else INSTITUTIONS[mixed % len(INSTITUTIONS)]
    )


def country_of(number: int) -> str:
    """Return the country of the person with this number."""
    return COUNTRIES[number * 40_503 % len(COUNTRIES)]


def use_of(number: int) -> str:
    """Return the intended use of the request with this number; one in 5,000 contains a rare word."""
    if number % 5000 == 77:
        return RARE_USE
    mixed = number * 3_266_489_917 % 2**32
    return USES[mixed % len(USES)].format(SUBJECTS[(mixed >> 8) % len(SUBJECTS)])
