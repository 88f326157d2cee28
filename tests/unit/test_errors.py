"""What every message goes through: passwords of addresses are left out, and no value is longer than a line."""

import importlib.metadata
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from project import ROOT

from artune.commands import scoring
from artune.commands.cli import main
from artune.errors import EXTRAS, ArtuneError, brief, no_such_file, not_installed, unknown, without_secrets

SECRET = "hunter2%2Fsecret"
PLACES = [
    "http://alice:{}@host:5000", "https://{}@host", "http://alice:{}@host/p?x=1", "postgresql+psycopg2://u:{}@host/db",
    "mysql://u:a@b/{}@host:3306/db", "http://host/?token={}", "http://host/x?a=1&access_token={}&b=2", "https://h/?sig={}",
    "https://bucket.example/f?X-Amz-Signature={}&X-Amz-Expires=60", "https://h/f#access_token={}", "http://host?api_key={}",
    "sqlite+pysqlcipher://:{}@/x.db", "host=h user=u password={} dbname=d", "{{'Authorization': 'Basic {}'}}",
    "Authorization: Bearer {}", "MLFLOW_TRACKING_PASSWORD={}", "ConnectionError(http://u:{}@h:1): Max retries exceeded",
    "proxy socks5h://u:{}@proxy:1080 refused, then http://v:{}@other",
]  # fmt: skip


@pytest.mark.parametrize("text", PLACES)
def test_no_message_has_the_password_of_an_address(text):
    for shown in (without_secrets(text.format(*[SECRET] * 2)), str(ArtuneError(text.format(*[SECRET] * 2)))):
        assert SECRET not in shown
        assert "hunter2" not in shown
        assert "***" in shown


@pytest.mark.parametrize("password", ["p'wxyz", 'p"wxyz', "p<wxyz", "p>wxyz", "p@'wxyz", "p/w'x:yz", "a 'b\" <c"])
def test_a_password_may_hold_any_character(password):
    address = f"http://alice:{password}@host:5000/x"
    assert without_secrets(address) == "http://alice:***@host:5000/x"
    assert without_secrets(address.replace("alice:", "al'ice:")) == "http://al'ice:***@host:5000/x"
    if " " not in password:
        assert (
            without_secrets(f"MLflow store {address} failed: 'x'")
            == "MLflow store http://alice:***@host:5000/x failed: 'x'"
        )
        assert "wxyz" not in without_secrets(f"http://{password.replace(':', '')}@host")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('http://h/?token="{}"&x=1', "http://h/?token=***&x=1"), ("http://h/?token='{}'#top", "http://h/?token=***#top"),
        ('http://h/?token="{}', "http://h/?token=***"), ("https://h/?a=1&sig=abc'{}'d&b=2", "https://h/?a=1&sig=***&b=2"),
        ('http://h/?token="{}&y" failed', "http://h/?token=*** failed"), ("f(token='{}', x=1)", "f(token=***, x=1)"),
        ('password = "{}" dbname=d', "password = *** dbname=d"), ("token='{} and more", "token=***"),
        ('token="a\\"{}"; write it', "token=***; write it"), ("api_key='{}'\nnext line's end", "api_key=***\nnext line's end"),
    ],
)  # fmt: skip
def test_a_secret_may_be_in_quotes(text, shown):
    assert without_secrets(text.format("hunter two")) == shown


@pytest.mark.parametrize("secret", ["hunter'2", 'hunter"2', "hunter<2", "hunter,2", "hunter;2", "it's"])
def test_a_secret_among_the_options_may_hold_any_character(secret):
    assert without_secrets(f"http://h/?token={secret}&x=2 failed") == "http://h/?token=***&x=2 failed"


@pytest.mark.parametrize(
    "text",
    ["'http://h/?token={}' and 'x'", '"http://h/?token={}", "b"', "see 'http://h/?token={}': 'x'", "<http://h/?token={}> failed",
     "http://h/?token={}; try again", "['http://h/?token={}', 'http://h/?token={}']", "get('http://h/?key={}').text is 'd'",
     "password={} is wrong, isn't it", "token={}; it's wrong", "'sig={}' or 'x'"],
)  # fmt: skip
def test_quotes_around_an_address_end_its_secret(text):
    assert without_secrets(text.replace("{}", "hunter2")) == text.replace("{}", "***")


@pytest.mark.parametrize(
    "text",
    ["'http://h/?token=' and 'x'", "http://127.0.0.1:5000", "sqlite:////data/a@b/mlflow.db", "file:///home/a:b@c/x", "git@host:a/b.git", "results/a@b:c",
     "https://host/x?page=2#top", "tokens 256, top-k 100", "/data/https:/x", "prompt: 'a photo of @'"],
)  # fmt: skip
def test_what_is_no_secret_stays(text):
    assert without_secrets(text) == text


def test_an_address_with_a_port_in_a_sentence_stays():
    text = "http://127.0.0.1:5000 does not answer to alice@host"
    assert without_secrets(text) == text


def test_secrets_of_the_environment_go_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "open sesame")
    monkeypatch.setenv("https_proxy", "http://u:long%20pass word@proxy:1")
    assert without_secrets("the server refused open sesame and long pass word") == "the server refused *** and ***"
    assert without_secrets("via long%20pass word") == "via ***"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a")  # too short to be told from a letter
    assert without_secrets("a cat") == "a cat"


def nested(depth):
    value = ["x"]
    for _ in range(depth):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    "value", ["x" * 10**6, "x y " * 10**5, list(range(10**6)), {str(n): n for n in range(10**5)}, nested(40), 1 << 10**6, b"x" * 10**6],
    ids=["word", "words", "list", "mapping", "aliases", "number", "bytes"],
)  # fmt: skip
def test_a_value_in_a_message_is_not_longer_than_a_line(value):
    assert len(brief(value)) <= 100
    assert len(unknown(value, ["llamagen_l-ours"])) <= 200


@pytest.mark.parametrize("value", ["x" * 10**6, repr("x y " * 10**5)], ids=["word", "quoted words"])
def test_a_value_that_nobody_shortened_is_shortened_at_the_end(value):
    message = str(ArtuneError(f"config.yaml: seed: {value} is no number; write a number"))
    assert len(message) < 200
    assert message.startswith("config.yaml: seed: ")
    assert message.endswith("; write a number")


def test_a_secret_in_a_long_message_is_not_cut_into_view():
    for at in range(1700, 2100, 7):
        assert "hunter2" not in str(
            ArtuneError("word " * (at // 5) + f"http://alice:{SECRET * 3}@host " + "word " * 400)
        )


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("results/mnist/runs/llamagen_l-ours/scores.json", "--config scale=mnist -- {path}"),
        ("results/imagenet-release/reference.npz", "--config scale=imagenet preset=release -- {path}"),
        ("results/table4.csv", "-- {path}"),
        ("./results//table4.csv", "-- results/table4.csv"),
        (f"{ROOT}/results/mnist/claims.json", "--config scale=mnist -- results/mnist/claims.json"),
    ],
)
def test_a_missing_file_of_the_workflow_comes_with_the_command_that_makes_it(path, told, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert str(no_such_file(path)) == f"{path}: no such file; `snakemake -c2 {told.format(path=path)}` makes it"


@pytest.mark.parametrize(
    "path", ["scores.json", "results/mnist/study/votes.sqlite", "results/mnist/runs/x/note.txt", "a/results/table4.csv"]
)
def test_any_other_missing_file_is_promised_by_no_command(path):
    assert str(no_such_file(path)) == f"{path}: no such file"
    assert str(no_such_file(path, "fetch it")) == f"{path}: no such file; fetch it"


OUTPUTS = re.compile(r"\boutput:\n(.*?)\n +(?:log|benchmark|shell|params|resources|conda|threads|priority|run):", re.S)
VALUES = {
    "scale": "mnist",
    "home": "mnist-release",
    "PLAN.folder": "results/mnist",
    "PLAN.timed()": "results/mnist/runs/a",
}


def outputs():
    """Every output in workflow/rules, with a value for each wildcard."""
    for rules in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for block in OUTPUTS.findall(rules.read_text()):
            for path in re.findall(r'"([^"]*\.\w+)"', block):
                yield re.sub(r"\{+([\w.()]+)\}+", lambda name: VALUES.get(name[1], "some_name"), path)


def test_every_output_of_a_rule_is_known_as_one():
    found = set(outputs())
    assert len(found) > 40
    unknown_ones = [
        path
        for path in found
        if path.startswith("results/") and "makes it" not in str(no_such_file(path)) and "/." not in path
    ]
    assert not unknown_ones


def test_a_missing_module_is_named_with_the_extra_that_brings_it(monkeypatch, capsys):
    def score(context, arguments):
        raise ModuleNotFoundError("No module named 'torch_fidelity'", name="torch_fidelity.interpolate_compat")

    monkeypatch.setattr(scoring, "score", score)
    assert main(["score", "a.npz", "--reference", "b.npz"]) == 2
    assert capsys.readouterr().err == "error: score needs torch_fidelity: pip install 'artune[networks]'\n"
    assert not_installed("score", "artune.nowhere") is None


def test_the_extras_bring_these_modules():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    brought = importlib.metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        direct = [Requirement(line).name for line in extras[extra]]
        names = {canonicalize_name(name) for name in direct}
        if extra == "networks":  # Pillow is torchvision's
            names |= {canonicalize_name(Requirement(line).name) for line in importlib.metadata.requires("torchvision")}
        for module in modules:
            assert {canonicalize_name(name) for name in brought[module]} & names, f"{extra} does not bring {module}"
