"""Product files: what is read, what is refused, and the goals made of them."""

import copy
import json

import numpy as np
import pytest

import envs_jax
from envs_jax.web import calibration
from envs_jax.web.catalogue import ProductFiles, find_files, load_products
from envs_jax.web.synthetic import generate_files, generate_products
from tests.envs_jax.web import shops
from tests.reference import webshop as reference

ITEMS, ATTRIBUTES = generate_files(0, 6)


def write(folder, items=ITEMS, attributes=ATTRIBUTES, human=None):
    (folder / "items_shuffle_6.json").write_text(json.dumps(items))
    (folder / "items_ins_v2_6.json").write_text(json.dumps(attributes))
    if human is not None:
        (folder / "items_human_ins.json").write_text(json.dumps(human))
    return folder


def test_files_hold_what_is_generated(tmp_path):
    assert load_products(write(tmp_path)) == generate_products(0, 6)
    assert load_products(tmp_path / "items_shuffle_6.json", 4) == generate_products(0, 6)[:4]
    files = ProductFiles(tmp_path / "a.json", tmp_path / "b.json")
    (tmp_path / "items_shuffle_6.json").rename(files.products)
    (tmp_path / "items_ins_v2_6.json").rename(files.attributes)
    assert load_products(files) == generate_products(0, 6)


def test_prices_in_all_forms(tmp_path):
    forms = {
        "$9.99": (9.99,),
        " $1,299.00 to $1,400.50": (1299.0, 1400.5),
        "$1.00$2.00$3.00": (1.0, 2.0),
        "$2.50 - $1": (2.5, 1.0),
        None: (),
    }
    items = [{**item, "pricing": form} for item, form in zip(ITEMS, [*forms, [5, 7.5]], strict=True)]
    assert [product.pricing for product in load_products(write(tmp_path, items))] == [*forms.values(), (5.0, 7.5)]


def test_entries_that_webshop_leaves_out(tmp_path):
    items = [*ITEMS, ITEMS[0], {**ITEMS[1], "asin": "nan"}, {**ITEMS[1], "asin": "longer than ten"}]
    with pytest.warns(UserWarning, match="left out 3 of 9 entries"):
        assert len(load_products(write(tmp_path, items))) == 6


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", 7, "field 'name': expected a text, got int"),
        ("query", None, "field 'query': expected a text, got NoneType"),
        ("small_description", [], "field 'small_description': expected a list of one or more texts"),
        ("small_description", ["a", 1], "field 'small_description': expected a list of one or more texts"),
        ("pricing", "free", "field 'pricing': expected amounts such as"),
        ("pricing", "$9.9.9", "field 'pricing': expected amounts such as"),
        ("pricing", "$-3", r"field 'pricing': expected amounts such as .*, got '\$-3'"),
        ("pricing", "-$3", "field 'pricing': expected amounts such as"),
        ("pricing", "$3 off", "field 'pricing': expected amounts such as"),
        ("pricing", "$nan", "field 'pricing': expected amounts such as"),
        ("pricing", "$1e3", "field 'pricing': expected amounts such as"),
        ("pricing", "$", "field 'pricing': expected amounts such as"),
        ("pricing", " ", "field 'pricing': expected amounts such as"),
        ("pricing", "12.50", "field 'pricing': expected amounts such as"),
        ("pricing", 12.5, "field 'pricing': expected a text such as"),
        ("pricing", [True], "field 'pricing': expected a text such as"),
        ("asin", " ", None),
        ("query", " ", "field 'query': expected a text, got an empty one"),
        ("category", "", "field 'category': expected a text, got an empty one"),
        ("small_description", None, "field 'small_description': expected a list of one or more texts"),
        (
            "customization_options",
            {"Size": [{"value": "s"}], "size": [{"value": "l"}]},
            "field 'customization_options.size': a",
        ),
        ("customization_options", {" ": [{"value": "s"}]}, "field 'customization_options. ': a group's name"),
        ("customization_options", {"Size": []}, "field 'customization_options.Size': the group has no values"),
        (
            "customization_options",
            {"Size": [{"value": " "}]},
            r"field 'customization_options.Size\[0\].value': expected a t",
        ),
        ("pricing", ["9"], "field 'pricing': expected a text such as"),
        ("pricing", [-1.0], "field 'pricing': expected a text such as"),
        ("customization_options", [1], "field 'customization_options': expected an object or ''"),
        ("customization_options", {"Color": "red"}, "field 'customization_options.Color': expected a list"),
        (
            "customization_options",
            {"Color": [{"value": "red"}, {"image": "x"}]},
            r"field 'customization_options.Color\[1\].value': expected a text, got nothing",
        ),
    ],
)
def test_malformed_product(tmp_path, field, value, message):
    items = copy.deepcopy(ITEMS)
    items[2][field] = value
    message = rf"product 2 \(S000000002\): {message}" if message else "product 2: field 'asin': expected a text"
    with pytest.raises(ValueError, match=f"items_shuffle_6.json: {message}"):
        load_products(write(tmp_path, items))


FIELDS = ("asin", "name", "category", "query", "product_category", "full_description", "small_description",
          "customization_options")  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_missing_field(tmp_path, field):
    items = copy.deepcopy(ITEMS)
    del items[1][field]
    place = "product 1" if field == "asin" else r"product 1 \(S000000001\)"
    with pytest.raises(ValueError, match=f"{place}: field '{field}': expected .*, got nothing"):
        load_products(write(tmp_path, items))


def test_what_webshop_accepts_is_accepted(tmp_path):
    """No price, an empty title or description (real products have them), ratings and other fields that it ignores."""
    items = copy.deepcopy(ITEMS)
    del items[0]["pricing"]
    items[1] |= {"name": "", "full_description": "", "product_category": "", "average_rating": "none", "images": []}
    products = load_products(write(tmp_path, items))
    assert products[0].pricing == () and products[1].title == ""
    assert len(products) == 6


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"name":', '"name": "twice", "name":', "the product S000000000 holds the key 'name' 2 times"),
        ('"name":', '"weight": NaN, "name":', "NaN is no number of JSON"),
        ('"name":', '"weight": -Infinity, "name":', "-Infinity is no number of JSON"),
    ],
)
def test_what_json_readers_let_pass(tmp_path, old, new, message):
    file = write(tmp_path) / "items_shuffle_6.json"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=f"items_shuffle_6.json: {message}"):
        load_products(tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (None, "no entry for product 0 of items_shuffle_6.json"),
        ({"attributes": "soft"}, "field 'attributes': expected a list of texts"),
        ({"attributes": [""]}, "field 'attributes': one of the texts is empty"),
        ({"instruction": None}, "field 'attributes': expected a list of texts, got nothing"),
        ({"attributes": [], "instruction": 3}, "field 'instruction': expected a text, got int"),
        ({"attributes": [], "instruction": ""}, "field 'instruction': expected a text, got an empty one"),
        (
            {"attributes": [], "instruction": "x", "instruction_attributes": []},
            "field 'instruction_attributes': expected a list of one or more texts",
        ),
    ],
)
def test_malformed_attributes(tmp_path, entry, message):
    with pytest.raises(ValueError, match=f"items_ins_v2_6.json: S000000000: {message}"):
        load_products(write(tmp_path, attributes={**ATTRIBUTES, "S000000000": entry}))


def test_malformed_human_instruction(tmp_path):
    human = {"S000000001": [{"instruction": "buy", "instruction_attributes": ["a"]}]}
    with pytest.raises(ValueError, match="items_human_ins.json: S000000001: field 'instruction_options'"):
        load_products(write(tmp_path, human=human))


def test_files_that_are_no_products(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        find_files(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"must hold one items_shuffle\*.json; found none"):
        find_files(tmp_path)
    write(tmp_path)
    (tmp_path / "items_ins_v2_6.json").unlink()
    with pytest.raises(FileNotFoundError, match="items_ins_v2_6.json: not found"):
        find_files(tmp_path)
    write(tmp_path)
    (tmp_path / "items_shuffle_6.json").write_text('[\n  {"asin": }\n]')
    with pytest.raises(ValueError, match=r"items_shuffle_6.json:2:12: malformed JSON"):
        load_products(tmp_path)
    (tmp_path / "items_shuffle_6.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a list of products, got dict"):
        load_products(tmp_path)
    (tmp_path / "items_shuffle_6.json").write_text("[3]")
    with pytest.raises(ValueError, match="product 0: expected an object, got int"):
        load_products(tmp_path)
    (tmp_path / "items_shuffle.json").write_text("[]")
    with pytest.raises(ValueError, match="found items_shuffle.json, items_shuffle_6.json. Name the file"):
        find_files(tmp_path)


def test_num_products_beyond_the_file(tmp_path):
    with pytest.raises(ValueError, match=r"num_products=7: .* holds 6 products"):
        load_products(write(tmp_path), 7)


def test_no_product_has_the_kind_of_goal(tmp_path):
    with pytest.raises(ValueError, match="goals='human': none of the 6 products has such an instruction"):
        envs_jax.make("WebShop-v0", products=write(tmp_path), goals="human")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"goals": "both"}, "goals='both' is not one of synthetic, human"),
        ({"reward": "sparse"}, "reward='sparse' is not one of raw, binary, harsh"),
        ({"page_size": 0}, "page_size=0 is not in 1 … 50"),
        ({"time_limit": 70000}, "time_limit=70000 is not in 1 … 65,535"),
        ({"num_distractors": -1}, "num_distractors=-1 is not in 0 … 100"),
        ({"num_products": 1}, "num_products=1; a synthetic catalogue has at least 2 products"),
    ],
)
def test_bad_arguments(argument, message):
    with pytest.raises(ValueError, match=message):
        envs_jax.make("WebShop-v0", **argument)


def check_goals(env, tasks, products, human):
    prices, goals = reference.prices_and_goals(products, shops.SEED, human)
    assert list(env.shop.prices) == prices
    assert len(tasks) == len(goals) == len(env.shop.goals)
    for made, expected in zip(env.shop.goals, goals, strict=True):
        assert made.product == expected["product"]
        assert made.instruction == expected["instruction"]
        assert list(made.attributes) == expected["attributes"]
        assert made.price_upper == expected["upper"]
        assert (list(made.options) if human else dict(made.options)) == expected["options"]
    weights = np.array([goal["weight"] for goal in goals])
    np.testing.assert_allclose(tasks.weights, weights / weights.sum(), atol=1e-6)


def test_synthetic_goals_equal_the_reference():
    check_goals(*shops.synthetic(), shops.synthetic_reference(), human=False)


@pytest.mark.parametrize("human", [False, True])
def test_real_goals_equal_the_reference(data_dir, human):
    env, tasks = shops.real(data_dir / "webshop", **({"goals": "human"} if human else {}))
    check_goals(env, tasks, shops.real_reference(data_dir / "webshop"), human)
    assert len(tasks) == (13 if human else 6910)


def test_all_real_products_and_options_are_there(data_dir):
    env, _ = shops.real(data_dir / "webshop")
    products = shops.real_reference(data_dir / "webshop")
    assert [dict(p.options) for p in env.shop.products] == [
        {name: tuple(values) for name, values in p["options"].items()} for p in products
    ]
    assert sum(len(p.options) >= 3 for p in env.shop.products) == 13
    assert max(env.actions.group_sizes) == 45


def test_catalogue_is_determined_by_the_seed():
    assert generate_files(5, 20) == generate_files(5, 20)
    assert generate_files(5, 20) != generate_files(6, 20)
    first, again = (envs_jax.make("WebShop-v0", seed=5, num_products=20)[0] for _ in range(2))
    other, _ = envs_jax.make("WebShop-v0", seed=6, num_products=20)
    assert first.catalogue_checksum == again.catalogue_checksum != other.catalogue_checksum


def test_smallest_catalogues_have_goals():
    for seed in range(4):
        _, tasks = envs_jax.make("WebShop-v0", seed=seed, num_products=2)
        assert len(tasks) >= 1


def test_calibration_figures():
    figures = calibration.measure(seed=shops.SEED, num_products=shops.NUM_PRODUCTS)
    env, tasks = shops.synthetic()
    assert figures["products, goals"] == f"{shops.NUM_PRODUCTS}, {len(tasks):,}"
    assert figures["words of the vocabulary"] == f"{len(env.vocabulary) - 1:,}"
    groups = [len(product.options) for product in env.shop.products]
    shares = [float(share) for share in figures["products with 0 / 1 / 2 / 3+ option groups"].split(" / ")]
    np.testing.assert_allclose(shares, np.bincount(groups, minlength=4) / len(groups), atol=1e-3)
    found = [float(share) for share in figures["asked product among the first 10 / 50 for its query"].split(" / ")]
    assert 0 < found[0] <= found[1] <= 1
    assert 0.9 < float(figures["goals met by exactly what they ask for"]) <= 1


def test_the_calibration_command_prints_a_table(tmp_path, capsys):
    assert calibration.main([str(write(tmp_path)), "--seed", "3"]) == 0
    header, _, first, *rest = capsys.readouterr().out.splitlines()
    assert header == "| figure | real | synthetic |" and len(rest) > 15
    assert first.startswith("| products, goals | 6, ") and " | 1,000, " in first


@pytest.mark.parametrize(
    ("products", "message"),
    [("nowhere", "nowhere: no such file or folder"), ("", "must hold one items_shuffle*.json; found none")],
)
def test_the_calibration_command_refuses_in_one_line(tmp_path, capsys, products, message):
    assert calibration.main([str(tmp_path / products)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and message in err and err.count("\n") == 1
