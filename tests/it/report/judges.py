"""Reads reports (a JSON list on standard input) as other people's programs do, and writes what they find as JSON."""

import csv
import io
import json
import sys

import html5lib
from markdown_it import MarkdownIt
from prometheus_client.parser import text_string_to_metric_families


def metrics(text):
    families = []
    for family in text_string_to_metric_families(text):
        samples = [{"name": one.name, "labels": one.labels, "value": one.value} for one in family.samples]
        families.append({"name": family.name, "type": family.type, "help": family.documentation, "samples": samples})
    return families


def table(text):
    return list(csv.reader(io.StringIO(text), strict=True))


def elements(tree):
    found = []
    for element in tree.iter():
        if isinstance(element.tag, str):
            found.append({"tag": element.tag, "attributes": dict(element.attrib), "text": "".join(element.itertext())})
    return found


def page(text):
    parser = html5lib.HTMLParser(namespaceHTMLElements=False)
    tree = parser.parse(text)
    return {"errors": [str(error) for error in parser.errors], "elements": elements(tree)}


def markdown(text):
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    return elements(html5lib.parse(shown, namespaceHTMLElements=False))


read = {"metrics": metrics, "csv": table, "html": page, "markdown": markdown}[sys.argv[1]]
print(json.dumps([read(text) for text in json.load(sys.stdin)]))
