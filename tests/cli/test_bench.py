"""convae bench: what it says, never how fast."""

import json

import pytest

TINY = ("--input", "3x17x20", "--levels", "4,8", "--batch-size", "2", "--rounds", "3", "--threads", "1")
TIMES = ("training_step_ms", "bare_convolutions_ms", "inference_ms", "bare_forward_ms")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_json_tells_what_was_measured_and_its_ratios(done, precision):
    result = json.loads(done("bench", *TINY, "--precision", precision, "--json").stdout)
    assert result["input"] == [2, 3, 17, 20]
    assert result["precision"] == precision
    assert (result["device"], result["threads"], result["rounds"]) == ("cpu", 1, 3)
    assert all(result[name] > 0 for name in TIMES)
    step, bare, inference, forward = (result[name] for name in TIMES)
    assert result["training_step_over_bare_convolutions"] == pytest.approx(step / bare)
    assert result["inference_over_bare_forward"] == pytest.approx(inference / forward)


def test_table_has_a_row_a_measurement(done):
    lines = done("bench", *TINY).stdout.splitlines()
    assert lines[0].startswith("2 images of 3x17x20, fp32, device cpu, 1 compute threads")
    for name in TIMES:
        assert sum(line.startswith(name.removesuffix("_ms").replace("_", " ") + "  ") for line in lines) == 1


@pytest.mark.parametrize("words, said", [
    (("--rounds", 0), "--rounds '0'"),
    (("--input", "192"), "--input '192'"),
    (("--input", "3x6x6", "--levels", "8:k7p0"), "cannot pass level 1"),
    (("--precision", "fp16"), "--precision 'fp16'"),
])
def test_what_cannot_be_measured_is_refused_by_name(convae, words, said):
    convae("bench", *words).assert_refused(2, said)


@pytest.mark.parametrize("words, said", [
    (("--input", "3x60000x60000"), "a training step of 16 images of 60000x60000 needs"),
    (("--levels", "65536,65536"), "parameters need"),
])
def test_what_needs_more_memory_than_there_is_is_not_begun(convae, words, said):
    convae("bench", *words).assert_refused(1, said)
