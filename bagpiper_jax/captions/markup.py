"""Markup of chat templates in text: reasoning that a model wrote before its answer, and marks that open or end turns.

Tokenizers read such marks as tokens of their own, so in a caption they would teach a model to think aloud, or to stop.
"""

import re

_BAR = "[|｜]"  # DeepSeek writes its marks with full-width bars
_REASONING = (
    r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad|inner_monologue)"
)
_OPENING = re.compile(
    rf"<\s*{_REASONING}\b[^<>]*>|\[THINK\]|◁think▷|<\|(?:START_THINKING|begin_of_thought)\|>|<\|channel>thought"
    r"|(?:<\|start\|>assistant)?<\|channel\|>\s*(?:analysis|commentary)",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"<\s*/\s*{_REASONING}\s*>|\[/THINK\]|◁/think▷|<\|(?:END_THINKING|end_of_thought)\|>|<channel\|>"
    # The last channel of gpt-oss, and what is left of its marks where a server drops special tokens.
    r"|(?:<\|start\|>assistant)?<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"|\Aanalysis.*?assistantfinal",
    re.IGNORECASE | re.DOTALL,
)
_END = re.compile(
    rf"\s*(?:<{_BAR}\s*(?:im_end|end[\w▁]*|eo[a-z]\w*|return|call|pad)\s*{_BAR}>|\[\|endofturn\|\]|</s>|<eos>|<pad>"
    r"|<end_of_turn>|<end_of_utterance>|<turn\|>|<seed:eos>|<eop>|\[EOS\])\s*\Z",
    re.IGNORECASE,
)
_LONGEST_END = 80  # characters with the white space around; beyond it no end is looked for
_CONTROL_TOKEN = re.compile(
    rf"<{_BAR}[^<>|｜\n]{{1,60}}{_BAR}>|\[\|[^\[\]|\n]{{1,60}}\|\]|</s>"
    r"|<(?:start|end|begin)_of_\w+>|<\|turn>|<turn\|>|<codec_layer\d+_\w+>",
    re.IGNORECASE,
)
_MARKUP = re.compile(
    rf"<{_BAR}[^<>\s]{{0,40}}>?|{_BAR}>|\[\|[^\[\]|\n]{{1,60}}\|\]|◁[^▷\n]{{1,20}}▷|<\s*/?\s*{_REASONING}\b[^<>]*>"
    r"|</?[a-z][\w:.-]*(?:\s+[\w:-]+=[^<>]*|=[^<>]*)?\s*/?>"
    r"|\[/?(?:INST|THINK|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT|ARGS|CALL_ID|IMG|AUDIO|BEGIN_AUDIO"
    r"|gMASK|BOS|EOS|PAD|UNK|CLS|SEP|MASK|UNUSED_TOKEN_\d+)\]",
    re.IGNORECASE,
)


def control_token_in(text: str) -> str | None:
    """The first token that steers a chat template or a model of ours: `<|im_end|>`, `</s>`, `<codec_layer0_pad>`."""
    return _first(_CONTROL_TOKEN, text)


def markup_in(text: str) -> str | None:
    """The first control token, mark of reasoning or tag of any name; prose has none of them."""
    return _first(_MARKUP, text)


def _first(pattern: re.Pattern, text: str) -> str | None:
    found = pattern.search(text)
    return found[0][:60] if found else None


def without_end_marks(text: str) -> str:
    """The text without the marks that end a turn where they end the text."""
    end = len(text)
    while found := _END.search(text, max(end - _LONGEST_END, 0), end):
        end = found.start()
    return text[:end]


def without_reasoning(text: str) -> str:
    """What follows the mark that closes the reasoning; the opening mark often stands in the prompt and is not there.

    Reasoning that no mark closes, or that begins behind other text, stays with its marks, for `markup_in` to find.
    """
    start = 0
    while closing := _CLOSING.search(text, start):
        opening = _OPENING.search(text, start, closing.start())
        if opening and text[start : opening.start()].strip():
            break
        start = closing.end()
    return text[start:]


def without_wrapping(text: str) -> str:
    """The reasoning itself where the whole text is reasoning between its marks, else the text as it is."""
    text = text.strip()
    opening, closing = _OPENING.match(text), _CLOSING.search(text)
    if opening and closing and closing.end() == len(text):
        return text[opening.end() : closing.start()].strip()
    return text
