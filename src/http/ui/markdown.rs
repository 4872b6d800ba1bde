//! A connector's guide as HTML. Guides come with connector folders, operators' own too: HTML in them is shown as text, links
//! lead to https alone, and pictures are left out.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use super::escape;

/// The guide below a heading of the page's own.
pub(super) fn html(text: &str) -> String {
    let mut events: Vec<Event<'_>> = Vec::new();
    let (mut in_head, mut pictures) = (false, 0_usize);
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Image { .. }) => pictures += 1,
            Event::End(TagEnd::Image) => pictures -= 1,
            _ if pictures > 0 => {}
            Event::Html(raw) | Event::InlineHtml(raw) => events.push(Event::Text(raw)),
            Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => {}
            Event::Start(Tag::Heading { level, id, classes, attrs }) => {
                events.push(Event::Start(Tag::Heading { level: below(level), id, classes, attrs }));
            }
            Event::End(TagEnd::Heading(level)) => events.push(Event::End(TagEnd::Heading(below(level)))),
            Event::Start(Tag::Link { dest_url, .. }) => events.push(Event::InlineHtml(opening(&dest_url).into())),
            Event::End(TagEnd::Link) => events.push(Event::InlineHtml("</a>".into())),
            // On a narrow page a table is moved sideways, by the keyboard too.
            Event::Start(Tag::Table(columns)) => {
                events.push(Event::InlineHtml("<div class=\"table\" role=\"group\" aria-label=\"Table\" tabindex=\"0\">".into()));
                events.push(Event::Start(Tag::Table(columns)));
            }
            Event::End(TagEnd::Table) => {
                events.push(Event::End(TagEnd::Table));
                events.push(Event::InlineHtml("</div>".into()));
            }
            event => {
                in_head = match &event {
                    Event::Start(Tag::TableHead) => true,
                    Event::End(TagEnd::TableHead) => false,
                    _ => in_head,
                };
                push(&mut events, event, in_head);
            }
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    html::push_html(&mut out, events.into_iter());
    out
}

/// A column's heading without a word is no heading for a screen reader.
fn push<'t>(events: &mut Vec<Event<'t>>, event: Event<'t>, in_head: bool) {
    let ends_cell = in_head && matches!(event, Event::End(TagEnd::TableCell));
    if ends_cell && matches!(events.last(), Some(Event::Start(Tag::TableCell))) {
        events.push(Event::InlineHtml("<span class=\"unseen\">what</span>".into()));
    }
    events.push(event);
}

fn below(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H2,
        HeadingLevel::H2 => HeadingLevel::H3,
        _ => HeadingLevel::H4,
    }
}

fn opening(address: &str) -> String {
    match address.starts_with("https://") {
        true => format!("<a href=\"{}\" target=\"_blank\" rel=\"noopener noreferrer\">", escape(address)),
        false => "<a>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::html;

    #[test]
    fn a_guide_cannot_run_or_fetch_anything() {
        let text = "# A <script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n\n![p](https://e.example/x.png) \
            [a](javascript:alert(1)) [b](https://e.example/\"onclick=\"x) `<b>`\n\n<div>\nx\n</div>\n";
        let shown = html(text);
        for bad in ["<script", "<img", "<div", "javascript:", "\"onclick", "<b>"] {
            assert!(!shown.contains(bad), "{bad}: {shown}");
        }
        assert!(shown.contains("&lt;script&gt;") && shown.contains("href=\"https://e.example/"), "{shown}");
    }

    #[test]
    fn tables_lists_and_commands_are_shown() {
        let shown = html("# T\n\n| | b |\n| --- | --- |\n| c | *d* |\n\n1. one\n   ```\n   run 'x,y'\n   ```\n2. **two**\n");
        for part in ["<h2>T</h2>", "<table>", "class=\"unseen\"", "<em>d</em>", "<ol>", "<pre><code>run 'x,y'", "<strong>two"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
