//! Tables for people: fixed widths, so that rows can be shown as they come, and nothing that could steer a terminal.

/// A column: its title, its width in cells, and what it shows of a record.
pub struct Column<T> {
    /// The title.
    pub title: &'static str,
    /// Its width in a terminal's cells; longer texts are cut.
    pub width: usize,
    /// The text.
    pub show: fn(&T) -> String,
}

/// The titles, in one line.
pub fn header<T>(columns: &[Column<T>]) -> String {
    line(columns.iter().map(|column| (column.title.to_owned(), column.width)))
}

/// One record, in one line.
pub fn row<T>(columns: &[Column<T>], record: &T) -> String {
    line(columns.iter().map(|column| ((column.show)(record), column.width)))
}

fn line(cells: impl Iterator<Item = (String, usize)>) -> String {
    let cells: Vec<String> = cells.map(|(text, width)| fit(&plain(&text), width)).collect();
    cells.join("  ").trim_end().to_owned()
}

/// A text without anything that a terminal would obey or that would turn the reading direction: it becomes `\u{…}`.
pub fn plain(text: &str) -> String {
    let keep = |letter: char| matches!(letter, '"' | '\'' | '\\');
    text.chars()
        .flat_map(|letter| {
            let escaped = (!keep(letter)).then(|| letter.escape_debug());
            escaped.map_or_else(|| letter.to_string(), |escaped| escaped.to_string()).chars().collect::<Vec<_>>()
        })
        .collect()
}

/// Fills or cuts a text to a width in cells.
fn fit(text: &str, width: usize) -> String {
    let all: usize = text.chars().map(cells).sum();
    if all <= width {
        return format!("{text}{}", " ".repeat(width - all));
    }
    let (mut kept, mut used) = (String::new(), 0);
    for letter in text.chars() {
        if used + cells(letter) >= width {
            break;
        }
        used += cells(letter);
        kept.push(letter);
    }
    format!("{kept}…{}", " ".repeat(width.saturating_sub(used + 1)))
}

/// How many cells a character takes: two for what East Asian scripts use, by Unicode's wide blocks.
pub const fn cells(letter: char) -> usize {
    match letter as u32 {
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe4f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::{Column, fit, header, plain, row};

    #[test]
    fn chinese_takes_two_cells_and_long_texts_are_cut() {
        assert_eq!(fit("王伟", 6), "王伟  ");
        assert_eq!(fit("王伟王伟", 6), "王伟… ");
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdefg", 6), "abcde…");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(plain("a\u{1b}[31m\u{202e}b\n\"c\""), "a\\u{1b}[31m\\u{202e}b\\n\"c\"");
    }

    #[test]
    fn titles_stand_over_their_texts() {
        let columns: [Column<(&str, &str)>; 2] = [
            Column { title: "name", width: 6, show: |pair| pair.0.to_owned() },
            Column { title: "tel", width: 5, show: |pair| pair.1.to_owned() },
        ];
        assert_eq!(header(&columns), "name    tel");
        assert_eq!(row(&columns, &("王伟", "138")), "王伟    138");
    }
}
