"""A Modelfile's text, read as Ollama's own client reads it. That models are made from one, lab 09's checks test."""

import pytest

from labkit.engines.ollama_daemon import TEMPLATE
from labkit.engines.ollama_modelfile import read_modelfile
from labkit.errors import OptionInvalid

WHOLE = f'''# mine
FROM /models/nano Q4.gguf

TEMPLATE """{TEMPLATE}"""
system """Be brief.
Be kind."""
PARAMETER temperature 0
PARAMETER top_p 0.9
PARAMETER num_predict -1
parameter stop "<|im_end|>"
PARAMETER stop </tool_call>
  # indented
LICENSE MIT'''


def test_every_instruction_is_read() -> None:
    assert read_modelfile(WHOLE) == {
        "from_": "/models/nano Q4.gguf",
        "template": TEMPLATE,
        "system": "Be brief.\nBe kind.",
        "license": "MIT",
        "parameters": {
            "temperature": 0,
            "top_p": 0.9,
            "num_predict": -1,
            "stop": ["<|im_end|>", "</tool_call>"],
        },
    }


def test_other_line_ends_and_none_are_read() -> None:
    assert read_modelfile("FROM nano\r\nSYSTEM Hi\r\n") == read_modelfile("FROM nano\nSYSTEM Hi")
    assert read_modelfile("\n\n  from nano  ") == {"from_": "nano"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SYSTEM Hi", "no FROM"),
        ("", "no FROM"),
        ("FROM nano\nTEMPERATURE 0", "TEMPERATURE 0"),
        ("FROM nano\nPARAMETER temperature", "PARAMETER temperature"),
        ("FROM nano\n???", "???"),
        ("FROM", "FROM"),
        ("FROM nano\nSYSTEM", "SYSTEM"),
        ("FROM nano\nMESSAGE user Hi", "MESSAGE"),
    ],
)
def test_a_line_that_is_wrong_is_shown(text: str, said: str) -> None:
    with pytest.raises(OptionInvalid) as caught:
        read_modelfile(text)
    assert said in caught.value.what and caught.value.fix
