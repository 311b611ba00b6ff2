"""Tests the status page in Chromium: content, layout on a phone and on a screen, both colour schemes, requests, keyboard, names
and accessibility.

python tests/browser/page.py HOST_HARNESS AXE.js [NAME]    with NAME, only the tests whose name contains it
"""

import json
import re
import sys
from pathlib import Path

from browser import Browser
from scene import CUSTOMERS, HOSTILE, LONG, SECRET, Scene

SHAPES = [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")]
TOKEN = "readers-of-the-status-page"


def views(scene):
    """The addresses of the page's views, by name."""
    find = lambda path, pattern: re.search(pattern, scene.get(path)[1]).group(1).replace("&amp;", "&")
    return {
        "all tenants": "",
        "second page": find("", r'href="\./(\?page=2)"'),
        "filtered": "?state=needs-person&sort=score",
        "nothing fits": "?find=no-such-tenant",
        "tenant": "tenant?tenant=contoso",
        "tenant with long names": "tenant?tenant=northwind",
        "tenant with a failing feed": "tenant?tenant=alpine-ski-house",
        "tenant that is left out": "tenant?tenant=wingtip-toys",
        "scope": find("tenant?tenant=contoso", r'href="(scope\?[^"]+)"'),
        "scope with a hostile name": find("tenant?tenant=fabrikam", r'href="(scope\?[^"]+-0000-[^"]+)"'),
        "scope that does not exist": "scope?feed=contoso-scores&scope=none",
    }


def test_what_needs_a_person_comes_first_and_everything_is_named(scene, tab, _):
    text = tab.open("").evaluate("document.body.innerText")
    places = [
        text.index(part)
        for part in [
            "What needs a person",
            "not accepted: the collector goes on with the previous one",
            "collectors: unknown key",
            "found no variable WINGTIP_SECRET",
            "credential-unreadable",
            "secret-invalid",
            "the tenant can mend it",
            "fix: put the secret's Value, not its Secret ID",
            "contact: Cloud security of alpine-ski-house",
            "`client_secret` expires in ",
            "answered-503",
            "outbox full",
            "9 dead letters",
            "dead-letters-siem.ndjson",
            "\nTenants\nTenant\n",
            "\nSinks",
            "took events ",
        ]
    ]
    assert places == sorted(places), (places, text[:4000])
    counted = tab.evaluate("document.querySelector('#needs .count').textContent")
    assert int(counted) == tab.evaluate("document.querySelectorAll('.needs:not(.again) > li').length") == 7, counted


def test_a_tenant_and_a_scope_show_score_history_controls_and_changes(scene, tab, paths):
    text = tab.open(paths["tenant"]).evaluate("document.body.innerText")
    for part in ["contoso", "9 collected", "History", "Scopes", "9 dead letters"]:
        assert part in text, (part, text)
    assert "outbox full" not in text, "another tenant's outbox"
    assert tab.evaluate("document.querySelectorAll('.scopes tbody tr').length") == 9
    text = tab.open(paths["scope"]).evaluate("document.body.innerText")
    for part in ["outcome\ncollected", "last good poll", "History", "Controls", "Last changes", "percentage points", " → ", "would add"]:
        assert part in text, (part, text)
    # A change names the controls that moved the score, and their differences are that of the score.
    changes = tab.evaluate(
        "[...document.querySelectorAll('.changes > li')].map(change => [change.querySelector('p:last-of-type').textContent,"
        " [...change.querySelectorAll('ul li')].map(part => part.textContent)])"
    )
    assert 3 <= len(changes), changes
    moved = lambda text: [float(number.split(" / ")[0]) for number in re.findall(r"[\d.]+ / \d+", text)]
    for whole, parts in changes:
        before, after = moved(whole)
        sum_of_parts = sum(moved(part)[1] - moved(part)[0] for part in parts)
        assert parts and abs((after - before) - sum_of_parts) < 0.03, (whole, parts)
    drawn = tab.evaluate("document.querySelector('.plot path.recent').getAttribute('d').length")
    assert drawn > 40, drawn


def test_nothing_is_wider_than_the_window_and_no_word_is_cut(scene, tab, paths):
    for name, path in paths.items():
        for width, scheme in SHAPES[::2]:
            tab.shape(width, scheme)
            tab.open(path)
            tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            wide = tab.evaluate(
                "[document.documentElement.scrollWidth, [...document.querySelectorAll('main *, header *, footer *')].filter(one => {"
                " const box = one.getBoundingClientRect();"
                " return !one.closest('.hidden') && box.width > 1 && box.right > innerWidth + 1 })"
                ".map(one => one.outerHTML.slice(0, 200)).slice(0, 3)]"
            )
            assert wide[0] <= width and not wide[1], (name, width, wide)
            # A heading of a column is broken between its words alone.
            broken = tab.evaluate(
                "[...document.querySelectorAll('thead th')].filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)"
            )
            assert width < 600 or not broken, (name, broken)
            if path == paths["scope"]:
                letters = tab.evaluate("parseFloat(getComputedStyle(document.querySelector('.levels span')).fontSize)")
                assert letters >= 12, f"the scale of the plot has letters of {letters} px at {width}"


def test_axe_finds_nothing_in_any_view_shape_and_scheme(scene, tab, paths, axe):
    for name, path in paths.items():
        for width, scheme in SHAPES:
            tab.shape(width, scheme)
            tab.open(path)
            tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            tab.evaluate(axe + ";0")
            tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
            found = tab.evaluate(f"axe.run(document, {{runOnly: {json.dumps(tags)}, resultTypes: ['violations']}}).then(JSON.stringify)")
            found = json.loads(found)
            told = [(one["id"], one["help"], [node["html"][:300] for node in one["nodes"][:3]]) for one in found["violations"]]
            assert not told, (name, width, scheme, told)
            assert len(found["passes"]) > 10, found["passes"]


def test_the_colours_follow_the_reader(scene, tab, paths):
    dark = {}
    for scheme in ("light", "dark"):
        tab.shape(1280, scheme)
        back = tab.open("").evaluate("getComputedStyle(document.body).backgroundColor")
        dark[scheme] = sum(map(int, re.findall(r"\d+", back)[:3])) < 200
    assert dark == {"light": False, "dark": True}, dark


def test_no_request_leaves_but_for_the_pages(scene, tab, paths):
    for path in paths.values():
        tab.browser.requests.clear()
        tab.open(path)
        assert tab.browser.requests == [f"{scene.url}/{path}"], tab.browser.requests
        assert tab.evaluate("document.scripts.length + document.querySelectorAll('link[rel=stylesheet], img, iframe').length") == 0
    # The test sees what leaves: a request from a page without the policy of the collector's.
    tab.open("data:text/html,<img src='http://elsewhere.example/'>")
    assert any("elsewhere.example" in url for url in tab.browser.requests), tab.browser.requests


def test_names_are_shortened_in_the_middle_with_the_whole_in_title(scene, tab, paths):
    tab.open(paths["tenant with long names"])
    name, title = tab.evaluate(
        "(one => [one.textContent, one.title])([...document.querySelectorAll('.scopes th span[title]')].find(one => one.title.startsWith('Landing')))"
    )
    head, tail = name.split("…")
    assert title.startswith(f"{LONG} (") and LONG.startswith(head) and LONG.endswith(tail) and len(name) == 40, (name, title)
    tab.open("?find=liberty")
    name, title = tab.evaluate("(one => [one.textContent, one.title])(document.querySelector('.tenant h3 span'))")
    assert title == next(one for one in CUSTOMERS if one.startswith("liberty")) and "…" in name, (name, title)


def test_names_of_the_service_bring_no_markup_no_control_character_and_no_secret(scene, tab, paths):
    for path in ["", paths["scope with a hostile name"], "tenant?tenant=fabrikam", "tenant?tenant=tailspin-toys", "?find=fabrikam"]:
        tab.open(path)
        source = scene.get(path)[1]
        assert "<script" not in source and "<img" not in source, path
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", source), path
        for secret in scene.secrets:
            assert secret not in source and SECRET not in source, f"a secret is shown at {path}"
        assert tab.evaluate("document.querySelectorAll('main img, main script').length") == 0
    shown = tab.open(paths["scope with a hostile name"]).evaluate("document.body.innerText")
    assert HOSTILE.split(" </td>")[0] in shown, shown[:600]


def test_everything_is_reached_by_the_keyboard_and_has_an_outline(scene, tab, paths):
    tab.shape(1280, "light")
    for path in ["?find=c", paths["tenant"], paths["scope"]]:
        tab.open(path)
        wanted = tab.evaluate(
            "[...document.querySelectorAll('a, input:not([type=hidden]), select, button, summary')]"
            ".filter(one => one.checkVisibility()).length"
        )
        reached = []
        while True:
            tab.press("Tab", 9)
            where = tab.evaluate(
                "(one => one === document.body ? null : [one.tagName, one.textContent.slice(0, 40), one.getAttribute('href'),"
                " getComputedStyle(one).outlineStyle, parseFloat(getComputedStyle(one).outlineWidth)])(document.activeElement)"
            )
            if where is None or len(reached) > 500:
                break
            assert where[3] == "solid" and where[4] >= 2, where
            reached.append(where)
        assert len(reached) == wanted, (path, wanted, len(reached), reached[-3:])
        assert reached[0][2] == "#main", reached[0]
    # A row of scopes is unfolded by a key.
    tab.open("")
    tab.evaluate("document.querySelector('details:not([open]) > summary').focus()")
    tab.press("Enter", 13, "\r")
    assert tab.evaluate("document.activeElement.parentElement.open") is True


def test_a_form_sends_its_question_and_keeps_it(scene, tab, paths):
    tab.open("?reload=1")
    tab.evaluate(
        "document.querySelector('[name=find]').value = 'o'; document.querySelector('[name=state]').value = 'collected';"
        "document.querySelector('[name=sort]').value = 'score'; 0"
    )
    tab.browser.events.clear()
    tab.evaluate("document.querySelector('form button').click()")
    tab.browser.wait_for("Page.loadEventFired", tab.session)
    asked = dict(pair.split("=") for pair in tab.evaluate("location.search.slice(1)").split("&"))
    assert asked == {"find": "o", "state": "collected", "sort": "score", "reload": "1"}, asked
    assert tab.evaluate("['find', 'state', 'sort'].map(name => document.querySelector(`[name=${name}]`).value)") == ["o", "collected", "score"]
    tenants = tab.evaluate("[...document.querySelectorAll('.tenant h3')].map(one => one.textContent)")
    assert tenants and all("o" in tenant for tenant in tenants), tenants
    scores = tab.evaluate("[...document.querySelectorAll('.tenant .score')].map(one => parseFloat(one.textContent))")
    assert scores == sorted(scores) and len(scores) > 5, scores
    for link in tab.evaluate("[...document.querySelectorAll('main a, header a')].map(one => one.getAttribute('href'))"):
        if link not in ("metrics", "#main", "#sinks") and "find=o" not in link:
            assert "reload=1" in link, f"{link} ends the reloading"


def test_landmarks_headings_and_captions_lead_a_screen_reader(scene, tab, paths):
    for path in paths.values():
        tab.open(path)
        nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
        roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
        for role in ("banner", "main", "contentinfo", "navigation"):
            assert role in roles, (path, role)
        headings = tab.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(one => +one.tagName[1])")
        assert headings[0] == 1 and headings.count(1) == 1, (path, headings)
        assert all(later - before <= 1 for before, later in zip(headings, headings[1:])), (path, headings)
        assert tab.evaluate("[...document.querySelectorAll('table')].every(one => one.caption?.textContent)"), path
        unnamed = [node for node in nodes if node["role"]["value"] in ("image", "link", "combobox", "searchbox") and not node["name"]["value"]]
        assert not unnamed, (path, unnamed)


def test_what_does_not_exist_is_answered_with_404(scene, tab, paths):
    for path in [paths["scope that does not exist"], "tenant?tenant=nobody", "tenant", "scope", "else", "favicon.ico", "metrics/x"]:
        status, text = scene.get(path)
        assert status == 404 and "<script" not in text, (path, status)
    assert scene.get("tenant?tenant=wingtip-toys")[0] == 200
    assert scene.get("", token="wrong")[0] == 401


def main(harness, axe, only=""):
    axe = Path(axe).read_text()
    tests = {name: test for name, test in globals().items() if name.startswith("test_") and only in name}
    assert tests, f"found no test with {only!r} in its name"
    failed = 0
    with Scene(harness, TOKEN) as scene, Browser() as browser:
        paths = views(scene)
        for name, test in tests.items():
            tab = browser.tab(scene.url, TOKEN)
            tab.shape(1280, "light")
            more = [axe] if test.__code__.co_argcount == 4 else []
            try:
                test(scene, tab, paths, *more)
                print(f"ok      {name}", flush=True)
            except AssertionError as error:
                failed += 1
                line = error.__traceback__.tb_next.tb_lineno
                print(f"FAILED  {name}: line {line}: {error}"[:6000], flush=True)
    sys.exit(f"{failed} of {len(tests)} tests of the status page failed" if failed else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
