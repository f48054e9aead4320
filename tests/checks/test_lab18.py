"""Lab 18's checks accept every right answer and explain the wrong ones."""

from dataclasses import replace

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve: pip install 'labkit[serve]'")

from judging import explains, verdict  # noqa: E402

from labkit.checks.lab18 import q1, q2, q3, q4  # noqa: E402
from labkit.serving.settings import Settings  # noqa: E402


def test_q1(capsys: pytest.CaptureFixture[str]) -> None:
    right = 500 * 8 * 3600 / 30
    for answer in (right, round(right), right * 1.01):
        assert verdict(q1, capsys, 500, answer)[0] == "right"
    assert verdict(q1, capsys, 500, ...)[0] == "not attempted"
    for wrong, said in (
        (right * 30, "for all 30"),
        (500 * 8 / 30, "3,600"),
        (right * 3, "not 24"),
        (right / 2, "is not it"),
        ("many", "number"),
        (0, "0 is not it"),
    ):
        explains(q1, capsys, said, 500, wrong)


LINES = [
    {"status": 200, "tried": [["a", "ok"]]},
    {"status": 200, "tried": [["a", "EngineFailed"], ["b", "ok"]]},
    {"status": 200, "tried": [["a", "EngineFailed"], ["a", "EngineFailed"], ["b", "ok"]]},
    {"status": 502, "tried": [["a", "EngineFailed"], ["b", "EngineFailed"]]},
    {"status": 200},
]


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(q2, capsys, LINES, 2)[0] == "right"
    assert verdict(q2, capsys, LINES, ...)[0] == "not attempted"
    for wrong, said in ((4, "tries; count"), (7, "is not it"), ("two", "is not it")):
        explains(q2, capsys, said, LINES, wrong)
    explains(q2, capsys, "status must be 200", LINES, 3)
    explains(q2, capsys, "that counts all", LINES[:3], 3)
    explains(q2, capsys, "none was rescued", LINES[:1], 0)


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    def loop(send, sleep):
        for _ in range(5):
            status, after = send()
            if status not in (429, 503):
                return status
            sleep(after)
        return status

    def while_true(send, sleep):
        tries = 0
        while True:
            status, after = send()
            tries += 1
            if status in (200, 400, 401) or tries == 10:
                return status
            sleep(after + 0.5)

    for right in (loop, while_true):
        assert verdict(q3, capsys, right)[0] == "right"
    assert verdict(q3, capsys, ...)[0] == "not attempted"

    def hasty(send, sleep):
        return next(s for s, _ in (send() for _ in range(5)) if s != 503)

    def endless(send, sleep):
        while (answer := send())[0] != 200:
            sleep(answer[1])
        return 200

    def stubborn(send, sleep):
        for _ in range(5):
            status, after = send()
            if status == 200:
                break
            sleep(after)
        return status

    def silent(send, sleep):
        send()

    def once(send, sleep):
        return send()[0]

    for wrong, said in (
        (hasty, "it sent"),
        (endless, "give up"),
        (stubborn, "400 will not get better"),
        (silent, "returned None"),
        (once, "after a 503"),
        (7, "function"),
        (lambda send, sleep: (sleep(1), send()[0])[1], "at once"),
    ):
        explains(q3, capsys, said, wrong)


SITE = Settings(
    host="0.0.0.0", keys=True, wait=5, cache="off", mask=r"\S+@\S+", tls_cert="a.pem", tls_key="a.key"
)


def test_q4(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (SITE, replace(SITE, wait=2, host="10.0.0.7", mask=r"[\w.]+@[\w.]+")):
        assert verdict(q4, capsys, right)[0] == "right"
    assert verdict(q4, capsys, ...)[0] == "not attempted"
    for change, said in (
        ({"host": "127.0.0.1"}, "only its own machine"),
        ({"host": "127.0.0.1", "keys": False}, "only its own machine"),
        ({"wait": 30}, "nurse"),
        ({"cache": "exact"}, "in a file"),
        ({"audit_text": True}, "audit log"),
        ({"mask": ""}, "pass through"),
        ({"mask": "bob@"}, "does not find"),
        ({"mask": r"\S+"}, "no address"),
        ({"tls_cert": "", "tls_key": ""}, "in the clear"),
    ):
        explains(q4, capsys, said, replace(SITE, **change))
    explains(q4, capsys, "give Settings", {"host": "0.0.0.0"})
