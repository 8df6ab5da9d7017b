"""Answers to the questions of our own suites that are known to be right, and some that are known to be wrong.

A call is (name, arguments). An answer is text, or a list of calls.
"""

from __future__ import annotations

from typing import Any

Answer = str | list[tuple[str, dict[str, Any] | str]]

TOOL_CALLS: dict[str, tuple[list[Answer], list[Answer]]] = {
    "weather-one-of-three": (
        [[("get_weather", {"city": "Lisbon"})], [("get_weather", {"city": "Lisbon", "unit": "celsius"})]],
        ["It is sunny in Lisbon.", [("get_time", {"city": "Lisbon"})], [("get_weather", {"city": "Lisboa"})],
         [("get_weather", {"city": "Lisbon"}), ("get_time", {"city": "Lisbon"})]],
    ),
    "weather-enum": (
        [[("get_weather", {"unit": "fahrenheit", "city": "Chicago"})]],
        [[("get_weather", {"city": "Chicago"})], [("get_weather", {"unit": "Fahrenheit", "city": "Chicago"})]],
    ),
    "currency-numbers": (
        [[("convert_currency", {"amount": 1250.5, "source": "CHF", "target": "JPY"})],
         [("convert_currency", '{"amount": 1250.50, "source": "CHF", "target": "JPY"}')]],
        [[("convert_currency", {"amount": "1250.5", "source": "CHF", "target": "JPY"})],
         [("convert_currency", {"amount": 1250.5, "source": "JPY", "target": "CHF"})],
         [("convert_currency", {"amount": 1250, "source": "CHF", "target": "JPY"})]],
    ),
    "no-call-arithmetic": (["42"], [[("convert_currency", {"amount": 42, "source": "USD", "target": "USD"})]]),
    "no-call-smalltalk": (["Good night!"], [[("set_light", {"room": "hall", "state": "off"})]]),
    "no-call-zh": (["植物用光把二氧化碳和水变成糖和氧气。"], [[("translate", {"text": "光合作用", "target": "en"})]]),
    "two-cities": (
        [[("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Nairobi"})],
         [("get_weather", {"city": "Nairobi"}), ("get_weather", {"city": "Oslo", "unit": "celsius"})]],
        [[("get_weather", {"city": "Oslo"})], [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Oslo"})],
         [("get_weather", {"city": "Oslo, Nairobi"})]],
    ),
    "two-tools-in-order": (
        [[("set_light", {"room": "kitchen", "state": "off"}), ("set_heating", {"room": "bedroom", "degrees": 18.5})]],
        [[("set_heating", {"room": "bedroom", "degrees": 18.5}), ("set_light", {"room": "kitchen", "state": "off"})],
         [("set_light", {"room": "kitchen", "state": False}), ("set_heating", {"room": "bedroom", "degrees": 18.5})]],
    ),
    "nested-room": (
        [[("book_room", {"room": "Curie", "slot": {"minutes": 45, "date": "2026-03-09", "start": "14:30"}, "equipment": ["projector"]})]],
        [[("book_room", {"room": "Curie", "slot": {"minutes": 45, "date": "2026-03-09", "start": "14:30"}})],
         [("book_room", {"room": "Curie", "date": "2026-03-09", "start": "14:30", "minutes": 45, "equipment": ["projector"]})]],
    ),
    "nested-order": (
        [[("place_order", {"customer": {"name": "Ada Brandt", "address": {"postcode": "10115", "city": "Berlin"}},
                           "lines": [{"sku": "CL-7", "quantity": 5}, {"sku": "BX-100", "quantity": 2}]})]],
        [[("place_order", {"customer": {"name": "Ada Brandt", "address": {"postcode": 10115, "city": "Berlin"}},
                           "lines": [{"sku": "CL-7", "quantity": 5}, {"sku": "BX-100", "quantity": 2}]})],
         [("place_order", {"customer": {"name": "Ada Brandt", "address": {"postcode": "10115", "city": "Berlin"}},
                           "lines": [{"sku": "CL-7", "quantity": 2}, {"sku": "BX-100", "quantity": 5}], "express": False})],
         [("place_order", {"customer": {"name": "Ada Brandt", "address": {"postcode": "10115", "city": "Berlin"}},
                           "lines": [{"sku": "CL-7", "quantity": 5}, {"sku": "BX-100", "quantity": 2}], "express": True})]],
    ),
    "list-of-enums": (
        [[("set_alarm", {"time": "06:45", "days": ["sat", "sun"]})],
         [("set_alarm", {"time": "06:45", "days": ["sun", "sat"], "label": "Wake up"})]],
        [[("set_alarm", {"time": "06:45"})], [("set_alarm", {"time": "18:45", "days": ["sat", "sun"]})],
         [("set_alarm", {"time": "06:45", "days": ["sat"]}), ("set_alarm", {"time": "06:45", "days": ["sun"]})]],
    ),
    "search-not-delete": (
        [[("search_files", {"pattern": "*.pdf", "folder": "reports", "modified_within_days": 7})]],
        [[("delete_file", {"path": "reports"})], [("search_files", {"pattern": "*.pdf", "folder": "reports"})]],
    ),
    "train-zh": (
        [[("search_trains", {"origin": "杭州东", "destination": "南京南站", "date": "2026-05-01", "seat": "first"})]],
        [[("search_trains", {"origin": "杭州", "destination": "南京", "date": "2026-05-01", "seat": "first"})],
         [("search_trains", {"origin": "南京南", "destination": "杭州东", "date": "2026-05-01", "seat": "first"})]],
    ),
    "translate-zh": (
        [[("translate", {"text": "明天下午三点开会", "target": "fr"})]],
        ["Réunion demain à 15 heures.", [("translate", {"text": "明天下午三点开会", "target": "en"})]],
    ),
    "two-reminders-zh": (
        [[("create_reminder", {"title": "给妈妈打电话", "when": "2026-04-03 19:30"}),
          ("create_reminder", {"title": "吃药", "when": "2026-04-02 08:00", "repeat": "daily"})]],
        [[("create_reminder", {"title": "吃药", "when": "2026-04-02 08:00", "repeat": "daily"})],
         [("create_reminder", {"title": "给妈妈打电话", "when": "2026-04-03 19:30"}),
          ("create_reminder", {"title": "吃药", "when": "2026-04-02 08:00"})]],
    ),
}  # fmt: skip

_PROGRAMS = {
    "run-lengths": (
        """
from itertools import groupby
def run_lengths(text):
    return [(key, len(list(run))) for key, run in groupby(text)]
""",
        """
def run_lengths(text):
    return [[c, text.count(c)] for c in sorted(set(text))]
""",
    ),
    "merge-ranges": (
        """
def merge(ranges):
    found = []
    for start, stop in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found
""",
        """
def merge(ranges):
    ranges.sort()
    found = []
    for start, stop in ranges:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found
""",
    ),
    "roman": (
        """
def roman(n):
    if not 1 <= n <= 3999:
        raise ValueError(n)
    text = ''
    for v, s in zip((1000,900,500,400,100,90,50,40,10,9,5,4,1), 'M CM D CD C XC L XL X IX V IV I'.split()):
        text += s * (n // v)
        n %= v
    return text
""",
        """
def roman(n):
    text = ''
    for v, s in zip((1000,900,500,400,100,90,50,40,10,9,5,4,1), 'M CM D CD C XC L XL X IX V IV I'.split()):
        text += s * (n // v)
        n %= v
    return text
""",
    ),
    "balanced": (
        """
def first_error(text):
    pairs = {')': '(', ']': '[', '}': '{'}
    stack = []
    for i, c in enumerate(text):
        if c in '([{':
            stack.append((c, i))
        elif c in pairs:
            if not stack or stack[-1][0] != pairs[c]:
                return i
            stack.pop()
    return stack[0][1] if stack else None
""",
        """
def first_error(text):
    return None if all(text.count(a) == text.count(b) for a, b in ('()', '[]', '{}')) else 0
""",
    ),
    "grid-path": (
        """
from collections import deque
def steps(grid):
    h, w = len(grid), len(grid[0])
    if grid[0][0] == '#' or grid[-1][-1] == '#':
        return -1
    seen, queue = {(0, 0)}, deque([(0, 0, 0)])
    while queue:
        y, x, d = queue.popleft()
        if (y, x) == (h - 1, w - 1):
            return d
        for a, b in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if 0 <= a < h and 0 <= b < w and grid[a][b] == '.' and (a, b) not in seen:
                seen.add((a, b))
                queue.append((a, b, d + 1))
    return -1
""",
        """
def steps(grid):
    return len(grid) + len(grid[0]) - 2
""",
    ),
    "lru": (
        """
from collections import OrderedDict
class Cache:
    def __init__(self, size):
        self.size, self.data = size, OrderedDict()
    def get(self, key):
        if key not in self.data:
            return None
        self.data.move_to_end(key)
        return self.data[key]
    def put(self, key, value):
        self.data[key] = value
        self.data.move_to_end(key)
        if len(self.data) > self.size:
            self.data.popitem(last=False)
""",
        """
class Cache(dict):
    def __init__(self, size):
        self.size = size
    def put(self, key, value):
        self[key] = value
        if len(self) > self.size:
            del self[next(iter(self))]
""",
    ),
    "weekday-zh": (
        """
from datetime import date, timedelta
def count_weekdays(start, end):
    a, b = date.fromisoformat(start), date.fromisoformat(end)
    return sum((a + timedelta(i)).weekday() < 5 for i in range((b - a).days + 1))
""",
        """
from datetime import date, timedelta
def count_weekdays(start, end):
    a, b = date.fromisoformat(start), date.fromisoformat(end)
    return sum((a + timedelta(i)).weekday() < 5 for i in range((b - a).days))
""",
    ),
    "coins-zh": (
        """
def fewest_coins(amount, coins):
    best = [0] + [None] * amount
    for i in range(1, amount + 1):
        found = [best[i - c] + 1 for c in coins if c <= i and best[i - c] is not None]
        best[i] = min(found) if found else None
    return -1 if best[amount] is None else best[amount]
""",
        """
def fewest_coins(amount, coins):
    count = 0
    for c in sorted(coins, reverse=True):
        count += amount // c
        amount %= c
    return -1 if amount else count
""",
    ),
}

CODE: dict[str, tuple[list[Answer], list[Answer]]] = {
    name: (
        [f"Here it is:\n\n```python{right}```\n\nIt prints:\n\n```\n1\n```"],
        [f"```python{wrong}```", f"```python{right}", right, f"```python\nimport sys\nsys.exit(0)\n{right}```"],
    )
    for name, (right, wrong) in _PROGRAMS.items()
}
