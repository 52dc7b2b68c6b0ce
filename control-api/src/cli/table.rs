//! Tables as kubectl prints them: no borders, three spaces between columns, `<none>` for nothing. Called by `get` and
//! `proxies`.

use comfy_table::{ContentArrangement, Table, presets};

use super::output::printable;

/// The lines of a table; nothing is cut, however narrow the terminal.
pub(super) fn render(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row.into_iter().map(shown).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.trim_fmt()
}

fn shown(text: String) -> String {
    if text.is_empty() {
        "<none>".to_owned()
    } else {
        printable(&text.replace(['\n', '\r'], " ")).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn columns_are_aligned_and_nothing_is_named() {
        let rows = vec![
            vec!["user-service".into(), String::new()],
            vec!["a".into(), "b\nc".into()],
            vec!["\u{1b}[2J".into(), "d".into()],
        ];
        let expected = "NAME           HOSTS\nuser-service   <none>\na              b c\n\\u001b[2J      d";
        assert_eq!(render(&["NAME", "HOSTS"], rows), expected);
    }
}
