"""What a browser makes of a page: the fields of its form, as it would send them."""

from html.parser import HTMLParser


class _Form(HTMLParser):
    def __init__(self, form_id: str) -> None:
        super().__init__()
        self._form_id, self._inside = form_id, False
        self._area: str | None = None
        self._select: str | None = None
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = given.get("id") == self._form_id
        name = given.get("name", "")
        if not self._inside or (not name and tag != "option"):
            return
        match tag, given.get("type", "text"):
            case "input", "checkbox" | "radio":
                if "checked" in given:
                    self.fields[name] = given.get("value", "on")
            case "input", "submit" | "button":
                pass
            case "input", _:
                self.fields[name] = given.get("value", "")
            case "textarea", _:
                self._area, self.fields[name] = name, ""
            case "select", _:
                self._select = name
            case "option", _:
                if self._select is not None and "selected" in given:
                    self.fields[self._select] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self.fields[self._area] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._area is not None:
            self.fields[self._area] = self.fields[self._area].removeprefix("\n")
            self._area = None
        elif tag == "select":
            self._select = None
        elif tag == "form":
            self._inside = False


def form_of(page: str, form_id: str) -> dict[str, str]:
    """The fields of the form as the page filled them; lines end in CR LF, as browsers send them."""
    parser = _Form(form_id)
    parser.feed(page)
    assert parser.fields, f"there is no form {form_id}"
    return {
        name: value.replace("\r\n", "\n").replace("\n", "\r\n")
        for name, value in parser.fields.items()
    }
