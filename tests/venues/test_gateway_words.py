"""What the gateway says, read without ever being believed or tripping anybody."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_app.venues import gateway
from execution_app.venues.gateway import Event

STREAM = (
    b'id: 0\nevent: MarketOrderAccepted\ndata: {"trackingId": "a-1"}\n\n: hb\n\nretry: 5\n\n'
    b'id: 1\nevent: AttemptFailed\ndata: {"code": "NO_PRICE",\ndata: "attempt": 1}\n\n'
    b'event: Error\ndata: {"code": "STREAM_TIMEOUT"}\n\nid: 2\nevent: MarketOrderExecuted\ndata: {"orderId"'
)


def test_a_stream_is_read_as_the_sdk_reads_it_and_what_is_cut_off_is_nothing() -> None:
    events = list(gateway.read_stream(STREAM.split(b"\n")))
    assert events == [
        Event("MarketOrderAccepted", {"trackingId": "a-1"}, 0),
        Event("AttemptFailed", {"code": "NO_PRICE", "attempt": 1}, 1),
        Event("Error", {"code": "STREAM_TIMEOUT"}, -1),
    ]
    assert [event.tracking_id for event in events] == ["a-1", "", ""]
    assert not any(event.is_terminal for event in events)
    assert events[1].words == "AttemptFailed NO_PRICE"
    assert Event("Error", {"code": "WrongSl"}).is_terminal


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".", "..", "a" * 65, "ü", "a b", "a\x00"])
def test_a_name_that_could_leave_its_path_is_none(name: str) -> None:
    assert Event(gateway.ACCEPTED, {"trackingId": name}).tracking_id == ""


def test_the_same_message_is_the_same_body() -> None:
    body = gateway.body(1, b"\x01\x02", b"\x03")
    assert body == gateway.body(1, b"\x01\x02", b"\x03")
    assert json.loads(body) == {
        "orderType": 1,
        "erc712": {"userIntent": "0x0102", "userSignature": "0x03"},
    }


@given(st.binary(max_size=400))
def test_no_stream_trips_the_reader(raw: bytes) -> None:
    for event in gateway.read_stream((b"event: X\n" + raw + b"\n\n").split(b"\n")):
        assert event.words.isprintable()
        assert -1 <= event.seq < 2**31


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["events", "type", "seq", "payload", "code"]), inner),
    )
)  # fmt: skip
def test_no_status_trips_the_reader(value: object) -> None:
    for shape in (value, {"events": value}, {"events": [value, {"type": value, "payload": {"code": value}}]}):
        try:
            events = gateway.read_status(json.dumps(shape).encode())
        except ValueError:
            continue
        for event in events:
            assert event.words.isprintable()
            assert -1 <= event.seq < 2**31
