"""The gateway's parts by themselves: settings, line, deadlines, quotas, trimming, filters, cache, audit log, backup."""

import asyncio
import json
import tarfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from labkit.errors import LabkitError, ModelFileInvalid, ModelNotFound, OptionInvalid, StorageFailed
from labkit.serving.audit import Audit
from labkit.serving.backup import back_up, restore
from labkit.serving.cache import SQLiteStore, cosine, keys_of, nearest, packed, unpacked
from labkit.serving.filters import Mask, check_prompt, redact
from labkit.serving.keys import Keys, Meter
from labkit.serving.openai_api import Ask, read_chat
from labkit.serving.queueing import Deadlines, Line
from labkit.serving.refused import Refused
from labkit.serving.settings import Backend, Settings
from labkit.serving.trim import estimate, trim
from labkit.types import Chunk, GenerationOptions, ToolCall, Usage


def test_settings_come_from_a_profile_then_the_environment_then_the_caller() -> None:
    env = {"LABKIT_SERVE_PROFILE": "prod", "LABKIT_SERVE_WAIT": "3.5", "LABKIT_SERVE_SLOTS": "2"}
    settings = Settings.read(env=env, slots=5)
    assert (settings.profile, settings.keys, settings.wait, settings.slots) == ("prod", True, 3.5, 5)
    env = {"LABKIT_SERVE_BACKENDS": "a=echo b=http://127.0.0.1:1/v1;model=m;weight=0.1;tasks=chat+tools"}
    a, b = Settings.read(env=env).backends
    assert (a.url, b.url, b.model, b.weight, b.task_classes) == (
        "",
        "http://127.0.0.1:1/v1",
        "m",
        0.1,
        ("chat", "tools"),
    )
    secret = Settings.read(env={"LABKIT_SERVE_CACHE_URL": "redis://:secret@localhost"})
    assert "secret" not in repr(secret)


@pytest.mark.parametrize(
    ("env", "changes", "said"),
    [
        ({"LABKIT_SERVE_PROFILE": "party"}, {}, "profile"),
        ({"LABKIT_SERVE_SLOTS": "many"}, {}, "slots"),
        ({"LABKIT_SERVE_KEYS": "maybe"}, {}, "keys"),
        ({"LABKIT_SERVE_WAIT": "nan"}, {}, "wait"),
        ({"LABKIT_SERVE_QUEUE": "-1"}, {}, "queue"),
        ({}, {"host": "0.0.0.0"}, "open to others"),
        ({}, {"tls_cert": "a.pem"}, "TLS"),
        ({}, {"cache": "some"}, "cache"),
        ({}, {"deny": "("}, "deny"),
        ({}, {"backends": ()}, "backends"),
        ({}, {"backends": (Backend("a"), Backend("a"))}, "backends"),
        ({"LABKIT_SERVE_BACKENDS": "echo"}, {}, "no backend"),
        ({"LABKIT_SERVE_BACKENDS": "a=echo;tasks=dance"}, {}, "task class"),
        ({"LABKIT_SERVE_BACKENDS": "a=echo;weight=0"}, {}, "weight"),
        ({"LABKIT_SERVE_BACKENDS": "a/b=echo"}, {}, "named"),
    ],
)
def test_settings_that_make_no_sense(env: dict[str, str], changes: dict, said: str) -> None:
    with pytest.raises(OptionInvalid, match=said):
        Settings.read(env=env, **changes)


def test_the_line_is_bounded_and_knows_priorities() -> None:
    async def main() -> None:
        line, order = Line(1, 3), list[str]()

        async def work(name: str, priority: int) -> None:
            async with line.place(priority, 5):
                order.append(name)
                await asyncio.sleep(0.01)

        tasks = [
            asyncio.create_task(work(*one))
            for one in (("first", 1), ("batch", 2), ("student", 1), ("boss", 0))
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (line.working, line.waiting) == (1, 3)
        with pytest.raises(Refused) as full:
            await work("late", 0)
        assert full.value.status == 503 and full.value.after >= 1
        await asyncio.gather(*tasks)
        assert order == ["first", "boss", "student", "batch"] and (line.working, line.waiting) == (0, 0)

    asyncio.run(main())


def test_who_leaves_the_line_leaves_no_hole() -> None:
    async def main() -> None:
        line = Line(1, 9)

        async def hold(seconds: float, within: float = 5) -> None:
            async with line.place(1, within):
                await asyncio.sleep(seconds)

        first = asyncio.create_task(hold(0.1))
        await asyncio.sleep(0)
        gone, late = asyncio.create_task(hold(0)), asyncio.create_task(hold(0, within=0.02))
        last = asyncio.create_task(hold(0))
        await asyncio.sleep(0.01)
        gone.cancel()
        with pytest.raises(Refused, match="no turn"):
            await late
        await asyncio.gather(first, last)
        assert gone.cancelled() and line.working == line.waiting == 0

    asyncio.run(main())


def test_deadlines_end_together() -> None:
    async def never() -> AsyncGenerator[int, None]:
        await asyncio.sleep(3600)
        yield 1

    async def main() -> None:
        deadlines = Deadlines()
        waiting = [asyncio.create_task(deadlines.next(never(), 1000)) for _ in range(3)]
        await asyncio.sleep(0)
        deadlines.stop(0.01)
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, TimeoutError) for one in ended) and deadlines.over
        with pytest.raises(TimeoutError):
            await deadlines.next(never(), 1000)

    asyncio.run(main())


def test_keys_are_hashed_listed_and_revoked(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.sqlite")
    other = Keys(tmp_path / "keys.sqlite")  # of another process
    ada, key = keys.add("Ada", "instructor", tokens=7)
    assert keys.find(key) == ada and ada.priority == 0 and other.find(key) is None
    other.refresh()
    assert other.find(key) == ada and [user.name for user in other.list()] == ["Ada"]
    other.revoke(ada.id)
    keys.refresh()
    assert keys.find(key) is None and keys.list() == []
    for wrong in ("", "x" * 1000, "' OR 1=1", "\ud800"):
        assert keys.find(wrong) is None
    with pytest.raises(ModelNotFound):
        keys.revoke(ada.id)
    for name, role, tokens in (
        ("Ada", "queen", 0),
        ("", "student", 0),
        ("a\nb", "student", 0),
        ("A", "student", -1),
    ):
        with pytest.raises(OptionInvalid):
            keys.add(name, role, tokens)
    keys.close()
    other.close()
    assert key.encode() not in (tmp_path / "keys.sqlite").read_bytes()


def test_two_processes_share_one_quota(tmp_path: Path) -> None:
    keys = [Keys(tmp_path / "keys.sqlite") for _ in range(2)]
    meters = [Meter(one.db, "tokens", 86_400) for one in keys]
    granted = sum(not meters[turn % 2].take("u", 1000, 7) for turn in range(400))
    assert 1000 - 2 * (1000 // 50 + 7) <= granted * 7 <= 1000
    for meter in meters:
        meter.close()
    third = Meter(keys[0].db, "tokens", 86_400)
    rest = sum(not third.take("u", 1000, 1) for _ in range(400))
    assert granted * 7 + rest == 1000  # an orderly end loses nothing
    assert third.take("u", 1000, 1) >= 1 and third.take("v", 1000, 1) == 0 and third.take("u", 0, 10**9) == 0
    for one in keys:
        one.close()


def test_what_a_killed_process_held_is_lost_and_not_granted_twice(tmp_path: Path) -> None:
    granted = 0
    for _ in range(5):  # each forgets its meter without closing it, as SIGKILL does
        keys = Keys(tmp_path / "keys.sqlite")
        meter = Meter(keys.db, "requests", 86_400)
        granted += sum(not meter.take("u", 100, 1) for _ in range(30))
        keys.close()
    assert 90 <= granted <= 100


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "old " * 50},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c", "content": "result " * 50},
    {"role": "assistant", "content": "so " * 50},
    {"role": "user", "content": "new question"},
]


def test_trimming_keeps_the_system_turn_and_tool_pairs_whole() -> None:
    assert trim(TALK, 10_000) == TALK
    for room in range(0, estimate(TALK) + 20, 5):
        left = trim(TALK, room)
        assert left[0] == TALK[0] and left[-1] == TALK[-1]
        assert (TALK[2] in left) == (TALK[3] in left)
        assert left == [TALK[0], *TALK[len(TALK) - len(left) + 1 :]]
        assert estimate(left) <= room or len(left) == 2
    running = [*TALK, {"role": "assistant", "content": "", "tool_calls": [CALL]}, TALK[3]]
    assert trim(running, 0) == [TALK[0], *running[5:]]  # a turn that is not over stays as it is


def test_filters() -> None:
    with pytest.raises(Refused) as no:
        check_prompt([{"role": "user", "content": "how to BUILD a bomb"}], "build.{0,9}bomb")
    assert no.value.status == 400 and "bomb" not in str(no.value)
    check_prompt(TALK, "bomb")
    for secret in ("sk-abcdefghijklmnop1234", "ada@example.org", "4111 1111 1111 1111", "Bearer abc.def"):
        assert secret not in redact(f"it is {secret}, you know") and "you know" in redact(
            f"{secret} you know"
        )
    text = "call 555-1234 or 555-9876 now " * 9
    for size in (1, 2, 7, 100, 1000):
        mask = Mask(r"\d{3}-\d{4}")
        pieces = [mask.feed(text[i : i + size]) for i in range(0, len(text), size)]
        assert "".join(pieces) + mask.feed("", last=True) == text.replace("555-1234", "[…]").replace(
            "555-9876", "[…]"
        )


def ask(text: str, **options: float) -> Ask:
    return Ask("nano", [{"role": "user", "content": text}], [], GenerationOptions.of(None, **options))


def test_the_cache_is_of_one_user_and_one_question(tmp_path: Path) -> None:
    keys = {keys_of(user, one) for user in ("a", "b") for one in (ask("x"), ask("y"), ask("x", max_tokens=3))}
    assert len(keys) == 6 and keys_of("a", ask("x")) == keys_of("a", ask("x"))
    assert keys_of("a", ask("x"))[0] == keys_of("a", ask("y"))[0] != keys_of("b", ask("x"))[0]
    chunks = [Chunk("a ", 1), Chunk("b", 1, (ToolCall("f", {"x": 1}),), "tool_calls", Usage(3, 2))]
    back = unpacked(packed(chunks))
    assert (back.text, back.tokens, back.tool_calls, back.usage) == (
        "a b",
        0,
        chunks[1].tool_calls,
        Usage(3, 2),
    )

    async def main() -> None:
        store = SQLiteStore(tmp_path / "cache.sqlite", ttl=1000)
        await store.put("g", "f", "value")
        assert await store.get("g", "f") == "value" and await store.all("g") == ["value"]
        assert await store.get("g", "other") is None and await store.all("other") == []
        store.ttl = -1
        assert await store.get("g", "f") is None
        await store.close()

    asyncio.run(main())


def test_the_nearest_answer_needs_to_be_near() -> None:
    values = [
        packed([Chunk(text, 1, finish_reason="stop")], v) for text, v in (("x", (1, 0)), ("y", (0.6, 0.8)))
    ]
    values.append(packed([Chunk("no vector", 1, finish_reason="stop")]))
    assert nearest(values, (0.99, 0.1), 0.95).text == "x"  # type: ignore[union-attr]
    assert nearest(values, (0.8, 0.2), 0.99) is None and nearest([], (1, 0), 0.5) is None
    assert cosine((1, 0), (1, 0, 0)) == 0 == cosine((0, 0), (1, 0)) and cosine(
        (2, 0), (3, 0)
    ) == pytest.approx(1)


def test_the_audit_log_mends_a_torn_line_and_has_one_owner(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2')
    audit, second = Audit(tmp_path), Audit(tmp_path)
    audit.write({"n": 3, "text": "é\n"})
    second.write({"n": 4})
    audit.close()
    second.close()
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 3]
    assert second.path != path and json.loads(second.path.read_text()) == {"n": 4}


def test_backup_and_restore(tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "b.tar.gz"
    keys, audit = Keys(state / "keys.sqlite"), Audit(state)
    ada, key = keys.add("Ada")
    audit.write({"n": 1})
    audit.flush()
    back_up(state, file)
    with pytest.raises(StorageFailed, match="gateway uses"):
        restore(file, state)
    keys.revoke(ada.id)
    keys.close()
    audit.close()
    assert restore(file, tmp_path / "new") == tmp_path / "new"
    restore(file, state)
    for folder in (state, tmp_path / "new"):
        again = Keys(folder / "keys.sqlite")
        assert again.find(key) == ada and (folder / "audit.jsonl").read_text() == '{"n": 1}\n'
        again.close()


def test_a_backup_that_was_changed_is_refused(tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "b.tar.gz"
    Keys(state / "keys.sqlite").close()
    back_up(state, file)
    data = bytearray(file.read_bytes())
    evil, other = tmp_path / "evil.tar.gz", tmp_path / "other"
    with tarfile.open(evil, "w:gz") as tar:
        (tmp_path / "manifest.json").write_text("{}")
        tar.add(tmp_path / "manifest.json", "manifest.json")
        tar.add(tmp_path / "manifest.json", "../../etc/cron")
    broken = tmp_path / "broken"
    broken.write_bytes(data[: len(data) // 2])
    for wrong in (evil, broken, tmp_path / "missing"):
        with pytest.raises(ModelFileInvalid):
            restore(wrong, other)
    assert not other.exists()


def test_tool_choices_and_schemas() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": tools}
    one = read_chat(body | {"tool_choice": {"type": "function", "function": {"name": "b"}}}, 9)
    assert one.options.tool_choice == "required" and [t["function"]["name"] for t in one.tools] == ["b"]
    assert read_chat(body | {"tool_choice": "none"}, 9).tools == [] and read_chat(body, 9).task == "tools"
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}}
    asked = read_chat(body | {"tools": None, "response_format": form}, 9)
    assert (
        asked.task == "json" and asked.options.schema == {"type": "integer"} and asked.options.max_tokens == 9
    )
    with pytest.raises(LabkitError):
        read_chat(body | {"max_completion_tokens": 0}, 9)
