"""Of any number of workers exactly one trains a job."""

import random
import threading
from types import SimpleNamespace

import pytest

from kernelexp import claims
from kernelexp.claims import Claim, ClaimLost, claim
from kernelexp.liveness import GRACE_SECONDS, Process, Watch, sign


class Steps:
    """A store of one experiment's tags; which worker does the next thing with it is drawn."""

    def __init__(self, workers, seed):
        self.tags, self.random = {}, random.Random(seed)
        self.waiting, self.workers = {}, workers
        self.turn = threading.Condition()

    def step(self):
        """Wait to be drawn; all are waited for, so that the order is the seed's alone."""
        with self.turn:
            me = threading.get_ident()
            self.waiting[me] = threading.current_thread().name
            self.draw()
            assert self.turn.wait_for(lambda: me not in self.waiting, 60)

    def draw(self):
        if self.waiting and len(self.waiting) == self.workers:
            names = sorted(self.waiting, key=self.waiting.get)
            del self.waiting[self.random.choice(names)]
            self.turn.notify_all()

    def leave(self):
        with self.turn:
            self.workers -= 1
            self.draw()

    def get_experiment(self, experiment):
        self.step()
        return SimpleNamespace(tags=dict(self.tags))

    def set_experiment_tag(self, experiment, key, value):
        self.step()
        self.tags[key] = value

    def delete_experiment_tag(self, experiment, key):
        self.step()
        del self.tags[key]


@pytest.mark.parametrize("seed", range(60))
def test_in_any_order_of_steps_one_trains(seed, monkeypatch):
    store, trained, at_it, wrong = Steps(3, seed), [], [], []

    def here():
        return Process("host", threading.get_ident() % 10**9, "1")

    monkeypatch.setattr(claims, "this_process", here)
    monkeypatch.setattr(claims.time, "sleep", lambda seconds: store.step())
    watch = SimpleNamespace(is_dead=lambda *_: False)

    def work():
        while not trained:
            own = claim(store, "0", "job", watch)
            if isinstance(own, Claim):
                at_it.append(own)
                if not trained:
                    store.step()
                    trained.append(own)
                if len(at_it) > 1:
                    wrong.append(list(at_it))
                at_it.remove(own)
                own.release()
            else:
                store.step()
        store.leave()

    threads = [threading.Thread(target=work, name=str(i)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive()
    assert not wrong
    assert len(trained) == 1
    assert store.tags == {}


@pytest.fixture
def experiment(client):
    return client.create_experiment("claims")


def test_a_claim_of_another_machine_is_respected_until_its_signs_stay_away(client, experiment):
    now = [0.0]
    watch = Watch(lambda: now[0])
    client.set_experiment_tag(experiment, "kernelexp.claim.job.other", f"1 {sign()} elsewhere 7 1")
    assert claim(client, experiment, "job", watch) == Process("elsewhere", 7, "1")
    assert isinstance(claim(client, experiment, "another", watch), Claim)
    now[0] = GRACE_SECONDS + 1
    own = claim(client, experiment, "job", watch)
    assert isinstance(own, Claim)
    own.release()
    claims.remove_dead(client, experiment, watch)
    assert "kernelexp.claim.job.other" not in client.get_experiment(experiment).tags


def test_who_was_taken_for_dead_ends_its_run(client, experiment):
    own = claim(client, experiment, "job", Watch())
    own.renew(sign())
    own.epoch(1, {})
    client.delete_experiment_tag(experiment, own.key)  # as another process does
    own.renew(sign())
    with pytest.raises(ClaimLost, match="no sign of life for 90 s"):
        own.epoch(2, {})
    assert own.key not in client.get_experiment(experiment).tags


def signs_late(monkeypatch, meanwhile=lambda own: None):
    """Each sign of life takes so long from here on that others may have taken its process for dead."""
    now, write = [0.0], Claim.write
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])

    def late(self, beat):
        now[0] += GRACE_SECONDS
        meanwhile(self)
        write(self, beat)

    monkeypatch.setattr(Claim, "write", late)


def test_who_was_stopped_between_look_and_sign_does_not_come_back(client, experiment, monkeypatch):
    def takes_it(own):
        client.delete_experiment_tag(experiment, own.key)
        other = f"1 {sign()} elsewhere 7 1"
        client.set_experiment_tag(experiment, "kernelexp.claim.job.other", other)

    own = claim(client, experiment, "job", Watch())
    signs_late(monkeypatch, takes_it)
    own.renew(sign())
    with pytest.raises(ClaimLost):
        own.epoch(1, {})
    assert own.key not in client.get_experiment(experiment).tags


def test_a_store_that_was_slow_takes_no_job_away(client, experiment, monkeypatch):
    own = claim(client, experiment, "job", Watch())
    signs_late(monkeypatch)
    own.renew(sign())
    own.epoch(1, {})
    assert own.key in client.get_experiment(experiment).tags


def test_a_claim_that_could_not_be_given_back_is_not_in_its_own_way(client, experiment):
    assert isinstance(claim(client, experiment, "job", Watch()), Claim)
    again = claim(client, experiment, "job", Watch())
    assert isinstance(again, Claim)
    again.release()
