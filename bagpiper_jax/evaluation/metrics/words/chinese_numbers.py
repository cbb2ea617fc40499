"""Numbers in digits as Chinese is spoken: 321元 is 三百二十一元, 2008年 二零零八年, 5% 百分之五.

The rules and their order are those of SpeechIO's text normalisation (`cn_tn.py`), which Qwen2-Audio, lmms-eval and Kimi
score Chinese with. Each rule sees what those before it left, so that a decimal of four places and more loses its point,
as it does there.
"""

import re
from collections.abc import Callable

_DIGITS = "零一二三四五六七八九"
_UNITS = tuple((4 * place, unit) for place, unit in enumerate("万亿兆京垓秭穰沟涧正载", 1))[::-1]
_UNITS += ((3, "千"), (2, "百"), (1, "十"))
"""Power of ten → its character, the largest first."""

_MEASURES = (
    "年月日季周天时刻分秒旬岁纪世代夜更春夏秋冬"  # time
    "里丈尺寸毫厘丝忽寻常铺程升斗石合勺撮斤两钱担钧铢锱斛"  # size and weight
    "碗碟盘叠桶笼盆盒杯锅篮簋罐瓶壶卮盏箱箩煲袋钵啖"  # what holds it
    "个只条张座回场尾首阵阙网炮顶丘棵支袭辆挑颗壳窠曲墙群腔砣客贯扎捆刀令打手罗坡山岭江溪钟队单双对出口头脚板跳枝件贴"
    "针线管名位身堂课本页家户层伏辈丸泡粒幢堆根道面片块匹"
)
_NUMBER = r"\d+(?:\.\d+)?"
_MONEY = "(?:千万|百万|[亿万千百元块角毛分])"

_YEAR, _DAY = r"(?:[089]\d|19\d\d|20\d\d)年", r"\d{1,2}月(?:\d{1,2}[日号])?"
_DATE = re.compile(rf"\D+((?:{_YEAR})?(?:{_DAY})?)")
_AMOUNT = re.compile(rf"\D+({_NUMBER}[多余几]?{_MONEY}(?:\d{_MONEY}?)?)")
_MOBILE = re.compile(r"\D((?:\+?86 ?)?1(?:[38]\d|5[0-35-9]|7[678]|9[89])\d{8})\D")
_TELEPHONE = re.compile(r"\D((?:0(?:10|2[1-3]|[3-9]\d\d)-?)?[1-9]\d{6,7})\D")
_FRACTION = re.compile(r"(\d+/\d+)")
_PERCENTAGE = re.compile(rf"({_NUMBER}%)")
_COUNT = re.compile(rf"({_NUMBER})[多余几]?(?:[{_MEASURES}]|[千毫微]克|[千分厘毫微]米)")
_CODE = re.compile(r"(\d{4,32})")
_ANY = re.compile(f"({_NUMBER})")
_LETTERS = re.compile(r"([a-zA-Z]+二[a-zA-Z]+)")


def spoken(text: str) -> str:
    """A Chinese text with its numbers written out."""
    text = _rewritten(_DATE, _date, f"^{text}$")
    text = _rewritten(_AMOUNT, _numbers, text)
    text = _rewritten(_MOBILE, _digits, text)
    text = _rewritten(_TELEPHONE, _digits, text)
    text = _rewritten(_FRACTION, lambda found: "分之".join(map(cardinal, found.split("/")[::-1])), text)
    text = _rewritten(_PERCENTAGE, lambda found: "百分之" + cardinal(found[:-1]), text.replace("％", "%"))
    text = _rewritten(_COUNT, cardinal, text)
    text = _rewritten(_CODE, _digits, text)
    text = _rewritten(_ANY, cardinal, text)
    text = _rewritten(_LETTERS, lambda found: found.replace("二", "2"), text)  # B2C, which was made B二C
    return text.lstrip("^").rstrip("$")


def _rewritten(pattern: re.Pattern, make: Callable[[str], str], text: str) -> str:
    """The text with what a pattern finds made anew, each where its like stands first, as in the script."""
    for found in pattern.findall(text):
        text = text.replace(found, make(found), 1)
    return text


def cardinal(number: str) -> str:
    """A number such as "1024" or "3.5" in characters; nothing of zeros alone, but of one."""
    whole, _, part = number.partition(".")
    said = _whole(whole) if len(whole) > 1 else _DIGITS[int(whole)]
    said = re.sub("(?<![零一二三四五六七八九十])二(?=[百千万亿兆京垓秭穰沟涧正载])", "两", said)
    said = re.sub("^一十", "十", said)
    return said if not part else (said or "零") + "点" + "".join(_DIGITS[int(each)] for each in part)


def _whole(digits: str) -> str:
    """The digits with their units; 零 stands where some are left out."""
    left = digits.lstrip("0")
    if not left:
        return ""
    if len(left) == 1:
        return ("零" if len(digits) > 1 else "") + _DIGITS[int(left)]
    power, unit = next(each for each in _UNITS if each[0] < len(left))
    return _whole(digits[:-power]) + unit + _whole(left[-power:])


def _numbers(text: str) -> str:
    return _ANY.sub(lambda found: cardinal(found[0]), text)


def _digits(text: str) -> str:
    return "".join(_DIGITS[int(each)] for each in text if each.isdigit())


def _date(text: str) -> str:
    year, mark, day = text.rpartition("年")
    return _digits(year) + mark + _numbers(day)
