"""Completions in the real shells, and the manual page as man reads it."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

COMMANDS = {"train", "reconstruct", "encode", "decode", "shapes", "info", "bench", "completion", "man"}


@pytest.fixture(scope="session")
def options(program, tmp_path_factory):
    """Each command's flags, as its help lists them."""
    folder = tmp_path_factory.mktemp("help")
    return {command: set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", program.run(command, "--help", cwd=folder).stdout, re.M))
            for command in COMMANDS}


def need(name):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name} here")
    return path


def script_of(program, shell, folder, name):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(program.run("completion", shell, cwd=folder).stdout)
    return folder / name


@pytest.fixture
def place(tmp_path):
    """A folder with something to complete."""
    place = tmp_path / "place"
    (place / "my photos").mkdir(parents=True)
    (place / "model.toml").write_text("")
    (place / "shard.tar").write_text("")
    return place


class Bash:
    """Asks bash what it would offer for a line's last word."""

    def __init__(self, program, folder):
        self.script = script_of(program, "bash", folder, "convae")

    def offers(self, line, cwd):
        # Words as readline splits them, = among what separates them.
        words = [word for part in line.split(" ") for word in (re.findall(r"=|[^=]+", part) or [""])]
        code = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _convae; '
                'printf "%s\\n" "${COMPREPLY[@]}"')
        out = subprocess.run([need("bash"), "--norc", "-c", code, "bash", self.script, *words], cwd=cwd,
                             capture_output=True, text=True, check=True)
        assert out.stderr == ""
        return set(out.stdout.splitlines()) - {""}


class Fish:
    """The same of fish."""

    def __init__(self, program, folder):
        need("fish")
        self.script = script_of(program, "fish", folder, "convae.fish")

    def offers(self, line, cwd):
        out = subprocess.run([need("fish"), "--no-config", "-c", f"source {self.script}; complete -C '{line}'"],
                             cwd=cwd, capture_output=True, text=True, check=True,
                             env={**os.environ, "HOME": str(self.script.parent)})
        assert out.stderr == ""
        found = {text.split("\t")[0] for text in out.stdout.splitlines()}
        # fish gives --lr=… whole.
        return {text.split("=", 1)[1] if "=" in text and text.startswith("--") else text for text in found}


class Zsh:
    """zsh has no such question, so it is asked at a terminal to list what it would complete."""

    SETTINGS = """fpath=($ZDOTDIR $fpath)
        autoload -U compinit; compinit -u -d $ZDOTDIR/dump
        zstyle ':completion:*' list-separator '|'
        LISTMAX=100000; setopt no_list_packed no_auto_menu no_beep
        say-done() { print -n DONE }; zle -N say-done
        bindkey '^D' list-choices '^T' say-done
        stty rows 500 columns 200
        PS1='READY>'
        """

    def __init__(self, program, folder):
        need("zsh")
        script_of(program, "zsh", folder, "_convae")
        (folder / ".zshrc").write_text(self.SETTINGS)
        self.folder = folder

    def offers(self, line, cwd):
        master, slave = pty.openpty()
        process = subprocess.Popen([need("zsh"), "-d", "-i"], cwd=cwd, stdin=slave, stdout=slave, stderr=slave,
                                   env={**os.environ, "ZDOTDIR": str(self.folder), "TERM": "vt100"},
                                   start_new_session=True)
        os.close(slave)
        try:
            read_until(master, b"READY>")
            os.write(master, line.encode() + b"\x04\x14")
            text = read_until(master, b"DONE")
        finally:
            process.kill()
            process.wait()
            os.close(master)
        text = text.replace("DONE", "")
        text = re.sub(r"\x1b[\[(][0-9;?]*[A-Za-z]|\0", "", text).replace("\r", "\n")
        lines = [listed.strip() for listed in text.split("\n")[1:]]
        # "--lr=  |learning rate", or several names in columns.
        words = {word.rstrip("=/") for listed in lines for word in [listed.split("|")[0].strip(),
                                                                  *re.split(r"  +", listed.split("|")[0])]}
        return words - {""}


def read_until(descriptor, mark, seconds=60):
    text, deadline = b"", time.monotonic() + seconds
    while mark not in text:
        assert time.monotonic() < deadline, text
        if select.select([descriptor], [], [], 0.1)[0]:
            text += os.read(descriptor, 65536)
    return text.decode(errors="replace")


@pytest.fixture(scope="module", params=[Bash, Fish, Zsh], ids=lambda kind: kind.__name__.lower())
def shell(request, program, tmp_path_factory):
    return request.param(program, tmp_path_factory.mktemp("scripts"))


def test_commands_are_offered(shell, place):
    assert COMMANDS <= shell.offers("convae ", place)
    assert {word for word in shell.offers("convae re", place) if word.startswith("re")} == {"reconstruct"}


def test_each_command_offers_its_own_options(shell, place, options):
    for command in ("train", "shapes", "decode"):
        offered = shell.offers(f"convae {command} --", place)
        missing = options[command] - offered
        assert not missing, (command, missing)
        assert not (options["train"] - options[command] - {"--help"}) & offered


def test_values_of_a_fixed_list_are_offered(shell, place):
    assert {"silu", "relu", "leaky-relu", "gelu"} <= shell.offers("convae train --activation ", place)
    assert "constant" in shell.offers("convae train --epochs 3 --schedule c", place)
    formats = {"onnx", "torchscript", "safetensors"}
    assert formats <= shell.offers("convae export --format ", place)
    assert not formats & shell.offers("convae reconstruct --format ", place)
    if not isinstance(shell, Fish):  # which knows no options that may have a value
        assert {"true", "false"} <= shell.offers("convae train --quiet=", place)


def test_folders_and_files_are_offered_where_they_belong(shell, place):
    def names(line):
        return {word.replace("\\", "").rstrip("/") for word in shell.offers(line, place)}
    folders = names("convae train --data ")
    assert {"my photos", "shard.tar"} <= folders and "model.toml" not in folders
    assert {"my photos", "model.toml"} <= names("convae train --config ")
    assert "model.toml" in names("convae info ")
    assert "model.toml" not in names("convae train --epochs ")


def test_shells_are_offered(shell, place):
    assert {"bash", "zsh", "fish"} <= shell.offers("convae completion ", place)


def test_scripts_are_read_without_complaint(program, tmp_path):
    for name, words in {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}.items():
        script = script_of(program, name, tmp_path, name)
        if shutil.which(words[0]):
            checked = subprocess.run([*words, script], capture_output=True, text=True)
            assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("words, part", [([], "bash, zsh or fish"), (["tcsh"], "'tcsh'"), (["bash", "zsh"], "zsh")])
def test_other_shells_are_refused(convae, words, part):
    convae("completion", *words).assert_refused(2, part)


@pytest.fixture(scope="module")
def man_page(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    (folder / "convae.1").write_text(program.run("man", cwd=folder).stdout)
    return folder / "convae.1"


def test_manual_page_is_rendered_without_a_warning(man_page):
    need("groff")
    out = subprocess.run(["groff", "-ww", "-man", "-Tutf8", "-rLL=100n", man_page], capture_output=True, text=True)
    assert (out.returncode, out.stderr) == (0, "")


def test_manual_page_has_every_command_and_option(man_page, options):
    need("groff")
    out = subprocess.run(["groff", "-man", "-Tutf8", "-P-c", "-rLL=100n", man_page], capture_output=True, text=True,
                         check=True)
    text = re.sub(".\b", "", out.stdout)
    for command, flags in options.items():
        assert f"convae {command}" in text.replace("\u00a0", " "), command
        for flag in flags - {"--help"}:
            assert re.search(rf"{flag}\b", text), flag
    assert "CHANNELS[:kHxWsHxWpHxWdHxWrN],…" in text
    assert '"mse + 0.2*ssim"' in text
    assert "[train: runs]" in text  # other commands need -o
