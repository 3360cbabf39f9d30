"""Which of a shop's columns is which of ours."""

import shlex

import pytest

from forwhy.data.sources.headers import guess
from forwhy.errors import UserError


@pytest.mark.parametrize(
    ("table", "columns", "found"),
    [
        (
            "interactions",
            "customer_id,sku,bought_at,quantity",
            "user_id=customer_id item_id=sku timestamp=bought_at",
        ),
        ("interactions", "customerId,productId,order_id", "user_id=customerId item_id=productId"),
        (
            "interactions",
            "Kunden-Nr,Artikelnummer,Datum",
            "user_id=Kunden-Nr item_id=Artikelnummer timestamp=Datum",
        ),
        (
            "interactions",
            "Kundennummer;Artikel-Nr;Bestelldatum",
            "user_id=Kundennummer item_id=Artikel-Nr timestamp=Bestelldatum",
        ),
        (
            "interactions",
            "Kd.-Nr.;Art.-Nr.;Zeitpunkt",
            "user_id=Kd.-Nr. item_id=Art.-Nr. timestamp=Zeitpunkt",
        ),
        (
            "reviews",
            "Käufer;ArtikelNr;Meinung;Sterne",
            "user_id=Käufer item_id=ArtikelNr text=Meinung rating=Sterne",
        ),
        (
            "interactions",
            "N° client;Réf. produit;Date d'achat",
            "user_id=N° client;item_id=Réf. produit;timestamp=Date d'achat",
        ),
        (
            "interactions",
            "Número de cliente;Código artículo;Fecha compra",
            "user_id=Número de cliente;item_id=Código artículo;timestamp=Fecha compra",
        ),
        (
            "items",
            "Artikelcode;Artikelbezeichnung;Warengruppe",
            "item_id=Artikelcode title=Artikelbezeichnung categories=Warengruppe",
        ),
        ("interactions", "userid,user,item_id,sku", "user_id=userid item_id=item_id"),
        ("interactions", "id,customer_name,sku", "item_id=sku"),
        (
            "items",
            "id,name,category,description,price",
            "item_id=id title=name description=description categories=category",
        ),
        ("items", "product,sku", "item_id=sku title=product"),
        (
            "reviews",
            "reviewerID,asin,overall,reviewText",
            "user_id=reviewerID item_id=asin text=reviewText rating=overall",
        ),
        (
            "intents",
            "side,id,attitude,rank,phrase",
            "side=side entity_id=id rank=rank phrase=phrase attitude=attitude",
        ),
    ],
)
def test_names(table: str, columns: str, found: str) -> None:
    wanted = dict(pair.split("=") for pair in (found.split(";") if ";" in found else found.split()))
    assert guess(table, "f", columns.split(";" if ";" in columns else ","), {}, {}) == wanted


def test_two_that_fit_are_refused_unless_another_table_or_the_caller_decides() -> None:
    columns = ["sku", "ean", "name"]
    with pytest.raises(UserError, match=r"f: sku and ean both fit item_id; .* --map items\.item_id=sku"):
        guess("items", "f", columns, {}, {})
    assert guess("items", "f", columns, {"item_id": "ean"}, {})["item_id"] == "ean"
    assert guess("items", "f", columns, {}, {"item_id": "sku"}) == {"title": "name"}


def test_names_that_can_be_pasted() -> None:
    for name, said in (("user_no", "user_no"), ("user no", "'user no'"), ("user'no", """'user'"'"'no'""")):
        with pytest.raises(UserError, match="both fit user_id") as caught:
            guess("interactions", "f", [name, "customer_no"], {}, {})
        remedy = str(caught.value).partition("e.g. ")[2]
        assert remedy == f"--map interactions.user_id={said}"
        assert shlex.split(remedy) == ["--map", f"interactions.user_id={name}"]
