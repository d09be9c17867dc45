"""Names of tensors, files and folders that send control codes to a terminal, flood a log, or do not fit."""

import pytest

from tests.attacks.kit import (
    bin_entries,
    dictionary,
    floats,
    header_of,
    run,
    sound_tensors,
    storage,
    tensor,
    write_safetensors,
    write_tensors,
)

NORM = "model.norm.weight"
STEERING = {
    "a title": "\x1b]0;PWNED\x07",
    "a cleared screen": "\x1b[2J\x1b[H",
    "an answer typed by the terminal": "\x1b[c\x05",
    "C1 codes": "\x9b2J\x90q\x9c",
    "a line break": "a\nrefused: nothing, all is well",
    "a carriage return": "a\rThe diff is good.      ",
    "a backspace": "evil\b\b\b\bgood",
    "a NUL": "a\0b",
    "text that runs backwards": "a\u202etxt.exe",
    "invisible letters": "a\u200b\u2060b",
    "other line breaks": "a\x85b\u2028c\u2029d\x0be\x0cf",
    "half a letter": "a\ud800b",
    "a tag of no script": "a\U000e0041b",
    "no name": "",
}
LONG = "a" * 1_000_000


@pytest.mark.parametrize("case", STEERING)
def test_tensor_name_that_steers_a_terminal_is_refused_and_shown_harmless(world, case):
    name = STEERING[case]
    tensors = {**sound_tensors(), name: ("F32", (1,), b"1234")}
    write_tensors(world.weights, tensors)
    assert "which is not a short printable text" in world.refused()


@pytest.mark.parametrize("case", STEERING)
def test_tensor_name_in_a_message_about_it_is_shown_harmless(world, case):
    """The readers report errors before all names have been checked to be printable."""
    header = header_of(sound_tensors())
    header[STEERING[case]] = {"dtype": "F32", "shape": [7], "data_offsets": [0, 4]}
    write_safetensors(world.weights, header, b"1234")
    world.refused()


@pytest.mark.parametrize("case", STEERING)
def test_name_in_a_pickle_is_shown_harmless(world, case):
    name = STEERING[case]
    world.use_bin(world.diff, bin_entries(sound_tensors(), dictionary({name: b"N"})))
    world.refused()


def test_name_of_a_megabyte_is_refused_in_one_short_line(world):
    write_tensors(world.weights, {**sound_tensors(), LONG: ("F32", (1,), b"1234")})
    assert len(world.refused()) < 400


def test_name_of_a_megabyte_in_a_pickle_is_refused_in_one_short_line(world):
    one = tensor(storage("3", 8), 0, (8,), (1,))
    world.use_bin(world.diff, bin_entries(sound_tensors(), dictionary({LONG: one})))
    assert len(world.refused()) < 400


def test_two_names_of_500_letters_are_told_in_a_line(world):
    name = "m" * 500
    write_tensors(world.weights, {**sound_tensors(), name: ("F32", (1,), b"1234")})
    assert world.refused().startswith(f"The diff has {name[:400]}")


@pytest.mark.parametrize(
    "case", [case for case in STEERING if case not in {"no name", "a NUL", "half a letter"}]
)
def test_file_name_that_steers_a_terminal_is_refused_and_shown_harmless(world, case):
    (world.diff / f"{STEERING[case]}.model").write_text("evil")
    assert "which is not a plain file name" in world.refused()


@pytest.mark.parametrize(
    "case", [case for case in STEERING if case not in {"no name", "a NUL", "half a letter"}]
)
def test_weight_file_whose_name_steers_a_terminal_is_refused(world, case):
    """A single file is taken as the weights whatever its name is."""
    world.weights.rename(world.diff / f"{STEERING[case]}.safetensors")
    assert "which is not a plain file name" in world.refused()


def test_file_name_that_is_not_utf8_is_refused(world):
    (world.diff / "tok\udcff\udcfe.model").write_text("evil")
    assert "names the file 'tok\\udcff\\udcfe.model', which is not a plain file name" in world.refused()


@pytest.mark.parametrize(
    "case", [case for case in STEERING if case not in {"no name", "a NUL", "half a letter"}]
)
def test_folder_whose_name_steers_a_terminal_is_shown_harmless(world, case):
    folder = world.root / STEERING[case].replace("/", "")
    world.diff.rename(folder)
    world.diff = folder
    world.weights.write_bytes(b"evil")
    world.refused()


def test_folder_that_does_not_exist_is_shown_harmless(world):
    done = run("plan", "--path_raw", "\x1b]0;PWNED\x07\n" * 1000, "--path_diff", world.diff)
    assert done.status == 2
    assert "\\x1b]0;PWNED" in done.sentence


def test_option_that_steers_a_terminal_is_shown_harmless(world):
    assert "unrecognized arguments" in world.refused("--\x1b[2J")
    assert "is not known" in world.refused("--dtype", "\x1b[2J\n\n" * 500)


def test_plan_shows_no_letter_that_steers_a_terminal(world):
    """This holds for text and for JSON; in XOR plans the file names are the tensor names."""
    for folder in (world.base, world.diff):
        (folder / "other\u00a0model.safetensors").write_bytes(b"12345678")
    for options in ((), ("--json",)):
        outcome = world.plan("--method", "xor", *options)
        assert outcome.status == 2
        assert "not a plain file name" in outcome.sentence


@pytest.mark.parametrize("name", ["a" * 201 + ".model", "é" * 101])
def test_file_name_so_long_that_our_own_would_not_fit_is_refused(world, name):
    for folder in (world.base, world.diff):
        (folder / name).write_bytes(b"12345678")
    assert "which is not a plain file name" in world.refused()
    assert "which is not a plain file name" in world.refused("--method", "xor")


@pytest.mark.parametrize("length", [250, 256, 5000])
def test_target_whose_name_is_too_long_is_refused(world, length):
    world.out = world.root / ("o" * length)
    assert "File name too long" in world.refused()
    if length > 255:
        assert world.plan().status == 2


def test_target_that_is_the_root_is_refused(world):
    world.out = "/"
    assert (
        world.refused()
        == "/ already exists and contains something else; choose another folder or move it away."
    )


def test_diff_of_nothing_but_buffers_is_refused(world):
    buffers = {"model.rotary_emb.inv_freq": ("F32", (4,), floats(4))}
    for folder in (world.base, world.diff):
        write_tensors(folder / "model.safetensors", buffers)
    assert world.refused() == "The diff holds nothing but buffers, so there is nothing to make."
    assert "model.safetensors" in world.made("--keep-rotary")
