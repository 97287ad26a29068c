"""Every table has a page, every page shows the mode, and no page changes anything."""

import pytest
from django.contrib import admin as django_admin
from django.db.models import Model
from django.test import Client
from django.urls import get_resolver, reverse
from pytest_django import DjangoAssertNumQueries

from execution_app.models import Chain, TxIntent, TxReceipt
from signals_app.models import ApiToken, SourceSecret
from tests.ops.panel.rows import SEALED, TABLES, TOKEN_SHA256, one_of_each

SWITCHES = ("execution_app_control_stop", "execution_app_control_resume")


def address(model: type[Model], verb: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{verb}", args=args)


def addresses(model: type[Model]) -> dict[str, str]:
    key = model._default_manager.values_list("pk", flat=True)[0]
    return {
        "changelist": address(model, "changelist"),
        "add": address(model, "add"),
        **{verb: address(model, verb, key) for verb in ("change", "delete", "history")},
    }


def test_every_table_has_a_page() -> None:
    assert get_resolver().url_patterns  # pages are registered where the URLs are read
    ours = {m for m in django_admin.site._registry if m._meta.app_label in {"execution_app", "signals_app"}}
    assert ours == set(TABLES)


def test_anonymous_is_sent_to_the_login(client: Client, database: None) -> None:
    one_of_each()
    login = reverse("admin:login")
    paths = [path for model in TABLES for path in addresses(model).values()]
    paths += [reverse("admin:index"), *(reverse(f"admin:{name}") for name in SWITCHES)]
    for path in paths:
        for method in (client.get, client.post):
            response = method(path)
            assert response.status_code == 302, path
            assert response["Location"].startswith(login), path


def test_the_login_page_shows_the_mode(client: Client, database: None) -> None:
    assert "vanta-banner vanta-dry" in client.get(reverse("admin:login")).content.decode()


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model._meta.db_table)
def test_a_page_shows_rows_and_the_mode_and_refuses_changes(admin: Client, model: type[Model]) -> None:
    one_of_each()
    paths = addresses(model)
    for verb in ("changelist", "change"):
        response = admin.get(paths[verb])
        assert response.status_code == 200
        assert 'class="vanta-banner vanta-dry' in response.content.decode()
    assert admin.get(paths["history"]).status_code == 200
    for verb in ("add", "change", "delete"):
        assert admin.post(paths[verb], {"post": "yes"}).status_code == 403
    assert admin.post(paths["changelist"], {"action": "delete_selected"}).status_code in {200, 302, 403}
    assert model._default_manager.exists()


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model._meta.db_table)
def test_search_and_filters_answer(admin: Client, model: type[Model]) -> None:
    one_of_each()
    page = django_admin.site._registry[model]
    filters = {f"{name}__exact": "open" for name in page.list_filter if isinstance(name, str)}
    assert admin.get(address(model, "changelist"), {"q": "drill"}).status_code == 200
    assert admin.get(address(model, "changelist"), filters).status_code in {200, 302}


def test_the_intent_page_tells_its_story(admin: Client, database: None) -> None:
    intent = one_of_each()
    text = admin.get(address(TxIntent, "change", intent.pk)).content.decode()
    assert "0x" + "9a" * 48 + "…" in text, "calldata, shortened"
    assert "(300 bytes)" in text
    assert '<span class="vanta-tag vanta-live">LIVE</span>' in text
    assert "0xeeeeeeee…eeeeee" in text, "the send"
    assert "Wanted price (USD)" in text
    assert "Collateral (USDC)" in text


def test_no_page_shows_a_secret_not_even_sealed(admin: Client, database: None) -> None:
    one_of_each()
    paths = addresses(SourceSecret)
    for verb in ("changelist", "change", "history"):
        page = admin.get(paths[verb]).content
        assert SEALED not in page
        assert SEALED.hex().encode() not in page.lower()


def test_a_token_is_on_no_page_not_even_by_its_hash(admin: Client, database: None) -> None:
    one_of_each()
    paths = addresses(ApiToken)
    for verb in ("changelist", "change", "history"):
        page = admin.get(paths[verb]).content.decode()
        assert "drill-dashboard" in page
        assert TOKEN_SHA256 not in page


def test_lists_carry_units_and_exact_numbers(admin: Client, database: None) -> None:
    one_of_each()
    text = admin.get(address(TxIntent, "changelist")).content.decode()
    assert "Collateral (USDC)" in text
    assert ">5<" in text.replace("\n", "").replace(" ", "")


def test_gas_and_blocks_are_told_with_gaps(admin: Client, database: None) -> None:
    one_of_each()
    Chain.objects.update(head_number=12_345_678, finalized_number=12_345_600)
    for model, said in ((TxReceipt, "300,000"), (Chain, "12,345,678")):
        key = model._default_manager.values_list("pk", flat=True)[0]
        for path in (address(model, "changelist"), address(model, "change", key)):
            assert said in admin.get(path).content.decode(), path


def test_a_long_list_costs_a_bounded_number_of_queries(
    admin: Client,
    database: None,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    intent = one_of_each()
    for number in range(30):
        TxIntent.objects.create(
            intent_key=f"sig:drill:many-{number}",
            trader=intent.trader,
            wallet=intent.wallet,
            tg_user_id=123,
            action="close",
            symbol="BTC-USD",
            slippage_pct=1,
        )
    with django_assert_max_num_queries(20):
        assert admin.get(address(TxIntent, "changelist")).status_code == 200


def test_no_page_loads_anything_from_elsewhere(admin: Client, database: None) -> None:
    text = admin.get(reverse("admin:index")).content.decode()
    for mark in ('src="http', 'src="//', '<link href="http', 'href="//'):
        assert mark not in text
