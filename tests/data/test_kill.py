from contextlib import closing

from robot_rl.data.store import EpisodeStore
from tests.data.killed_writer import KilledWriter


def test_fifty_kills_leave_committed_episodes_exact_and_cost_two_steps_at_most(tmp_path):
    with closing(KilledWriter(tmp_path / "store", seed=0)) as writer:
        for _ in range(50):
            writer.round(longest_s=0.35)
    record = writer.record
    assert record.problems == []
    assert record.kills == record.clean == 50
    assert record.found["journal"] > 10  # the kills did hit running episodes
    store = EpisodeStore.open(tmp_path / "store")
    assert store.verify() == []
    assert list((tmp_path / "store" / "journal").iterdir()) == []
    recovered = [info for info in store.infos() if info.metadata["recovered"]]
    assert len(recovered) > 10 and len(recovered) < len(store.ids())
    before = {info.id: info for info in store.infos()}
    store.repair()
    assert {info.id: info for info in store.infos()} == before  # an index made anew equals the grown one
