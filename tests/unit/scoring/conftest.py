import pytest
from project import ROOT
from scorer import Call, write_networks


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    return write_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def scored(capsys, networks, monkeypatch):
    """A call of ``artune score`` with the smoke scale's networks; it must succeed unless ``refused`` is asked for."""
    monkeypatch.chdir(ROOT)

    def call(samples, reference, *words, refused=False, **further):
        done = Call(capsys, samples, reference, *words, **{"networks": networks, **further})
        assert done.status == (2 if refused else 0), done.err
        assert "Traceback" not in done.err
        return done

    return call
