"""Streams whose schemas declare far more than their records hold, as those of large connectors do. Always the same.

- *invoices*: accounting documents. References to other documents are expanded level by level, which makes about 1,800
  fields in 750 objects, of which a record has a few.
- *blocks*: pieces of pages. Each of 31 kinds of block has an object of its own, and a record has one of them.
- *filters*: saved searches with the people, groups and projects that they are shared with.
- *answers*: an object whose names are data, and never repeat. *answers as text* has the same values in a text column.

It must not know messages or files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

Record = dict[str, Any]
_Random = Random

INVOICES, BLOCKS, FILTERS, ANSWERS, ANSWERS_AS_TEXT = "invoices", "blocks", "filters", "answers", "answers as text"

_TEXT = {"type": ["null", "string"]}
_WHOLE = {"type": ["null", "integer"]}
_NUMBER = {"type": ["null", "number"]}
_TRUTH = {"type": ["null", "boolean"]}
_MOMENT = {"type": ["null", "string"], "format": "date-time", "airbyte_type": "timestamp_with_timezone"}
_DAY = {"type": ["null", "string"], "format": "date"}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": ["null", "object"], "properties": dict(properties), "additionalProperties": True}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": ["null", "array"], "items": dict(items)}


def _fields(type_: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return dict.fromkeys(names, type_)


def _root(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "additionalProperties": True}


# ---------------------------------------------------------------------- invoices

_REFERENCES = {
    "Invoice": {"Contact": "Contact", "LineItems": "[LineItem]", "Payments": "[Payment]", "CreditNotes": "[Note]"},
    "Contact": {
        "Addresses": "[Address]",
        "Phones": "[Phone]",
        "ContactGroups": "[Group]",
        "ContactPersons": "[Person]",
        "Balances": "Balances",
        "BatchPayments": "Batch",
        "BrandingTheme": "Theme",
    },
    "LineItem": {"Tracking": "[Tracking]", "Item": "Item", "ValidationErrors": "[Message]"},
    "Payment": {"Invoice": "Invoice", "CreditNote": "Note", "Account": "Account", "BatchPayment": "Batch"},
    "Note": {"Contact": "Contact", "LineItems": "[LineItem]", "Allocations": "[Allocation]"},
    "Allocation": {"Invoice": "Invoice", "Statuses": "[Message]"},
    "Batch": {"Account": "Account"},
    "Group": {"Contacts": "[Contact]"},
    "Balances": {"AccountsReceivable": "Amounts", "AccountsPayable": "Amounts"},
    "Item": {"PurchaseDetails": "Details", "SalesDetails": "Details"},
}
"""The fields of each document that hold other documents, or lists of them."""
_OWN: dict[str, dict[str, Any]] = {
    "Invoice": {
        **_fields(_TEXT, "InvoiceID", "InvoiceNumber", "Reference", "Type", "Status", "CurrencyCode"),
        **_fields(_NUMBER, "SubTotal", "TotalTax", "Total", "AmountDue", "CurrencyRate"),
        **_fields(_MOMENT, "UpdatedDateUTC"),
        **_fields(_DAY, "DateString", "DueDateString"),
        **_fields(_TRUTH, "HasAttachments", "HasErrors"),
    },
    "Contact": {
        **_fields(_TEXT, "ContactID", "ContactStatus", "Name", "EmailAddress", "TaxNumber"),
        **_fields(_TRUTH, "IsSupplier", "IsCustomer"),
    },
    "LineItem": {
        **_fields(_TEXT, "LineItemID", "Description", "AccountCode", "TaxType"),
        **_fields(_NUMBER, "Quantity", "UnitAmount", "LineAmount"),
    },
    "Payment": {**_fields(_TEXT, "PaymentID", "Reference"), **_fields(_NUMBER, "Amount"), **_fields(_DAY, "Date")},
    "Note": {**_fields(_TEXT, "CreditNoteID", "Status"), **_fields(_NUMBER, "Total", "RemainingCredit")},
    "Allocation": {**_fields(_NUMBER, "Amount"), **_fields(_DAY, "Date")},
    "Batch": _fields(_TEXT, "BatchPaymentID", "Details"),
    "Group": _fields(_TEXT, "ContactGroupID", "Name"),
    "Balances": {},
    "Item": _fields(_TEXT, "ItemID", "Code"),
    "Address": _fields(_TEXT, "AddressType", "AddressLine1", "City", "PostalCode", "Country"),
    "Phone": _fields(_TEXT, "PhoneType", "PhoneNumber"),
    "Person": {**_fields(_TEXT, "FirstName", "EmailAddress"), **_fields(_TRUTH, "IncludeInEmails")},
    "Tracking": _fields(_TEXT, "Name", "Option"),
    "Account": _fields(_TEXT, "AccountID", "Code"),
    "Theme": _fields(_TEXT, "BrandingThemeID", "Name"),
    "Amounts": _fields(_NUMBER, "Outstanding", "Overdue"),
    "Details": {**_fields(_NUMBER, "UnitPrice"), **_fields(_TEXT, "TaxType")},
    "Message": _fields(_TEXT, "Message"),
}
_EXPANDED_LEVELS = 7


def _document(name: str, levels: int) -> dict[str, Any]:
    """A document's schema, with the documents it refers to expanded so many levels deep."""
    properties = dict(_OWN[name])
    for field, reference in _REFERENCES.get(name, {}).items() if levels else ():
        inner = _document(reference.strip("[]"), levels - 1)
        properties[field] = _list(inner) if reference.startswith("[") else inner
    return _object(properties)


def _invoice(number: int, random: _Random) -> Record:
    below = random.randrange
    lines = [_line(random) for _ in range(1 + below(4))]
    total = round(sum(line["LineAmount"] for line in lines), 2)
    payments = [{"PaymentID": _key(random), "Amount": total, "Date": _day(random)}] if below(2) else []
    return {
        "InvoiceID": _key(random),
        "InvoiceNumber": f"INV-{number:06}",
        "Reference": _words(random, 3),
        "Type": "ACCREC",
        "Status": random.choice(("PAID", "AUTHORISED", "VOIDED")),
        "CurrencyCode": random.choice(("EUR", "USD", "NZD")),
        "SubTotal": total,
        "TotalTax": 0,
        "Total": total,
        "AmountDue": 0.5,
        "UpdatedDateUTC": _moment(random),
        "DateString": _day(random),
        "DueDateString": _day(random),
        "HasAttachments": below(2) == 0,
        "HasErrors": False,
        "Contact": {
            "ContactID": _key(random),
            "Name": _words(random, 2),
            "Addresses": [{"AddressType": "STREET", "City": _words(random, 1), "PostalCode": f"{below(10**5):05}"}],
            "Phones": [{"PhoneType": "DEFAULT", "PhoneNumber": f"+49 {below(10**9)}"}],
        },
        "LineItems": lines,
        "Payments": payments,
        "CreditNotes": [],
    }


def _line(random: _Random) -> Record:
    below = random.randrange
    return {
        "LineItemID": _key(random),
        "Description": _words(random, 6),
        "AccountCode": f"{below(1000)}",
        "Quantity": 1 + below(9),
        "UnitAmount": below(10**5) / 100,
        "LineAmount": below(10**6) / 100,
        "Tracking": [{"Name": "Region", "Option": _words(random, 1)}] if below(3) == 0 else [],
    }


# ---------------------------------------------------------------------- blocks

_RICH_TEXT = _list(
    _object(
        {
            "type": _TEXT,
            "text": _object({"content": _TEXT, "link": _object({"url": _TEXT})}),
            "mention": _object(
                {
                    "type": _TEXT,
                    "user": _object(_fields(_TEXT, "object", "id")),
                    "page": _object({"id": _TEXT}),
                    "date": _object(_fields(_TEXT, "start", "end", "time_zone")),
                }
            ),
            "annotations": _object(
                {**_fields(_TRUTH, "bold", "italic", "strikethrough", "underline", "code"), "color": _TEXT}
            ),
            "plain_text": _TEXT,
            "href": _TEXT,
        }
    )
)
_WRITTEN = (
    *("paragraph", "heading_1", "heading_2", "heading_3", "bulleted_list_item", "numbered_list_item", "to_do"),
    *("toggle", "quote", "callout", "code", "template"),
)
_LINKED = (
    *("image", "video", "file", "pdf", "audio", "embed", "bookmark", "link_preview", "equation", "divider", "column"),
    *(
        "breadcrumb",
        "child_page",
        "child_database",
        "table",
        "table_row",
        "synced_block",
        "unsupported",
        "link_to_page",
    ),
)


def _block_schema() -> dict[str, Any]:
    person = _object(_fields(_TEXT, "object", "id"))
    linked = {"caption": _RICH_TEXT, **_fields(_TEXT, "type", "url"), "file": _object({"url": _TEXT, "until": _MOMENT})}
    written = {"rich_text": _RICH_TEXT, "color": _TEXT, "checked": _TRUTH, "icon": _object(_fields(_TEXT, "emoji"))}
    return _root(
        {
            **_fields(_TEXT, "object", "id", "type"),
            **_fields(_MOMENT, "created_time", "last_edited_time"),
            **_fields(person, "created_by", "last_edited_by"),
            **_fields(_TRUTH, "has_children", "archived"),
            "parent": _object(_fields(_TEXT, "type", "page_id", "block_id")),
            **_fields(_object(written), *_WRITTEN),
            **_fields(_object(linked), *_LINKED),
        }
    )


def _block(number: int, random: _Random) -> Record:
    kind = random.choice(_WRITTEN)
    return {
        "object": "block",
        "id": _key(random),
        "parent": {"type": "page_id", "page_id": _key(random)},
        "created_time": _moment(random),
        "last_edited_time": _moment(random),
        "created_by": {"object": "user", "id": _key(random)},
        "last_edited_by": {"object": "user", "id": _key(random)},
        "has_children": False,
        "archived": number % 50 == 0,
        "type": kind,
        kind: {"rich_text": [_rich_text(random) for _ in range(1 + random.randrange(3))], "color": "default"},
    }


def _rich_text(random: _Random) -> Record:
    content = _words(random, 8)
    unset = dict.fromkeys(("bold", "italic", "strikethrough", "underline", "code"), False)
    return {
        "type": "text",
        "text": {"content": content, "link": None},
        "annotations": {**unset, "color": "default"},
        "plain_text": content,
        "href": None,
    }


# ---------------------------------------------------------------------- filters

_AVATARS = _object(_fields(_TEXT, "16x16", "24x24", "32x32", "48x48"))
_USER = {
    **_fields(_TEXT, "self", "accountId", "accountType", "name", "emailAddress", "displayName", "timeZone", "locale"),
    "active": _TRUTH,
    "avatarUrls": _AVATARS,
}
_PERMISSION = {
    "id": _WHOLE,
    "type": _TEXT,
    "project": _object(
        {
            **_fields(_TEXT, "self", "id", "key", "name", "description", "assigneeType", "style", "uuid"),
            **_fields(_TRUTH, "simplified", "archived", "deleted", "isPrivate", "favourite"),
            "avatarUrls": _AVATARS,
            "lead": _object(_USER),
            "insight": _object({"totalIssueCount": _WHOLE, "lastIssueUpdateTime": _MOMENT}),
            "components": _list(_object({**_fields(_TEXT, "id", "name"), "lead": _object(_USER)})),
            "issueTypes": _list(_object({**_fields(_TEXT, "id", "name", "iconUrl"), "subtask": _TRUTH})),
            "versions": _list(_object({**_fields(_TEXT, "id", "name"), **_fields(_DAY, "startDate", "releaseDate")})),
        }
    ),
    "role": _object({**_fields(_TEXT, "self", "name", "description"), "id": _WHOLE, "admin": _TRUTH}),
    "group": _object(_fields(_TEXT, "name", "groupId", "self")),
    "user": _object(_USER),
}


def _filter_schema() -> dict[str, Any]:
    return _root(
        {
            **_fields(_TEXT, "expand", "self", "id", "name", "description", "jql", "viewUrl", "searchUrl"),
            "owner": _object({**_USER, "groups": _object({"size": _WHOLE, "items": _list(_object({"name": _TEXT}))})}),
            **_fields(_list(_object(_PERMISSION)), "sharePermissions", "editPermissions"),
            "sharedUsers": _object({"size": _WHOLE, "items": _list(_object(_USER))}),
            "subscriptions": _list(_object({"id": _WHOLE, "user": _object(_USER), "group": _object({"name": _TEXT})})),
            "favourite": _TRUTH,
            "favouritedCount": _WHOLE,
            "approximateLastUsed": _MOMENT,
        }
    )


def _filter(number: int, random: _Random) -> Record:
    home = "https://example.atlassian.net"
    return {
        "self": f"{home}/rest/api/3/filter/{number}",
        "id": str(number),
        "name": _words(random, 3),
        "description": _words(random, 6),
        "owner": {"self": f"{home}/rest/api/3/user?accountId={_key(random)}", "displayName": _words(random, 2)},
        "jql": f"project = {_words(random, 1)} AND type = {_words(random, 1)} ORDER BY created",
        "viewUrl": f"{home}/issues/?filter={number}",
        "searchUrl": f"{home}/rest/api/3/search?jql={_words(random, 3)}",
        "favourite": False,
        "favouritedCount": random.randrange(5),
        "sharePermissions": [{"id": number, "type": "loggedin"}] if random.randrange(2) else [],
        "editPermissions": [],
        "subscriptions": [],
    }


# ---------------------------------------------------------------------- answers

_ENTRY = {"id": _WHOLE, "submitted_at": _MOMENT, "form": _TEXT}


def _entry(number: int, random: _Random) -> Record:
    answers: Record = {f"question_{number:06}_{index}": _words(random, 5) for index in range(12)}
    answers["version"] = number % 3
    return {"id": number, "submitted_at": _moment(random), "form": _words(random, 2), "answers": answers}


def _entry_as_text(number: int, random: _Random) -> Record:
    entry = _entry(number, random)
    return {**entry, "answers": json.dumps(entry["answers"], separators=(",", ":"))}


# ---------------------------------------------------------------------- values

_SYLLABLES = ("ba", "cor", "de", "fin", "gal", "ho", "in", "jun", "ka", "lem", "mor", "ne", "or", "pi", "ra", "sol")


def _words(random: _Random, count: int) -> str:
    return " ".join("".join(random.choices(_SYLLABLES, k=3)) for _ in range(count))


def _key(random: _Random) -> str:
    text = f"{random.getrandbits(128):032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _day(random: _Random) -> str:
    return f"2026-{1 + random.randrange(12):02}-{1 + random.randrange(28):02}"


def _moment(random: _Random) -> str:
    below = random.randrange
    return f"{_day(random)}T{below(24):02}:{below(60):02}:{below(60):02}.{below(1000):03}Z"


SCHEMAS: dict[str, dict[str, Any]] = {
    INVOICES: _root(_document("Invoice", _EXPANDED_LEVELS)["properties"]),
    BLOCKS: _block_schema(),
    FILTERS: _filter_schema(),
    ANSWERS: _root({**_ENTRY, "answers": _object({"version": _WHOLE})}),
    ANSWERS_AS_TEXT: _root({**_ENTRY, "answers": _TEXT}),
}
"""The JSON schema of each kind of records."""
_RECORDS: dict[str, Callable[[int, _Random], Record]] = {
    INVOICES: _invoice,
    BLOCKS: _block,
    FILTERS: _filter,
    ANSWERS: _entry,
    ANSWERS_AS_TEXT: _entry_as_text,
}


def connector_records(kind: str, count: int, *, seed: int = 1) -> Iterator[Record]:
    """`count` records of this kind; equal arguments give equal records. Raises KeyError for a kind without a schema."""
    make, random = _RECORDS[kind], Random(seed)
    return (make(number, random) for number in range(1, count + 1))
