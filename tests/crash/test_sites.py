"""Places are found by reading the code, so that a new one cannot be forgotten."""

from tests.crash import sites

SOURCE = """
SQL = "UPDATE wallets SET x = 1"
READ = "SELECT 1 FROM control FOR UPDATE"

def place(wallet, cursor, found, endpoint):
    with transaction.atomic(durable=True):
        found.update(other)
        Wallet.objects.filter(
            pk=1
        ).update(x=1)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(SQL)
            cursor.execute(READ)
    signers.sign(slot, fee)
    endpoint.batch(calls)
    rpc.read("eth_chainId")
    transaction.on_commit(lambda: ring(submit, 1))
    transaction.on_commit(partial(ring, submit, 1))
    submit.delay(1)

class Verb:
    @transaction.atomic
    def act(self):
        self.row.save()
"""


def test_every_kind_of_place_is_seen() -> None:
    found = [site.name.removeprefix("app.verbs:") for site in sites.of_source(SOURCE, "app/verbs.py")]
    assert found == [
        "place:commit",
        "place:write Wallet.update",
        "place:commit 2",
        "place:write sql",
        "place:sign",
        "place:request batch",
        "place:request read",
        "place:bell",
        "place:bell 2",
        "place:publish delay",
        "Verb.act:commit",
        "Verb.act:write self.save",
    ]


def test_the_code_has_places_of_every_kind() -> None:
    found = sites.inspect()
    assert {site.kind for site in found} == {"commit", "write", "sign", "request", "bell", "publish"}
    assert len({site.name for site in found}) == len(found)
    assert sum(site.kind == "sign" for site in found) >= 2


def test_whatever_is_excused_is_still_there_and_has_a_reason() -> None:
    names = sites.listed()
    assert not sites.gone(names)
    unexcused = [site.name for site in sites.inspect() if not sites.is_listed(site.name, names)]
    assert len(unexcused) >= 100, "most places are walked, not excused"
