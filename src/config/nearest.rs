//! Words for messages: the nearest known name, lists, plurals.

/// Names beyond this are not looked at.
const COMPARED_WITH_MAX: usize = 200;
/// Longer texts are not compared: the cost grows with the square.
const COMPARED_MAX: usize = 64;

/// Finds the known name that is most like `text`, if any is near enough to be meant.
#[must_use]
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = fold(text);
    if wanted.is_empty() || wanted.len() > COMPARED_MAX {
        return None;
    }
    let near_enough = (wanted.len() / 3).clamp(1, 3);
    let similar = |name: &&str| name.len().abs_diff(text.len()) <= 3 * near_enough;
    let distances =
        known.into_iter().take(COMPARED_WITH_MAX).filter(similar).map(|name| (distance(&wanted, &fold(name)), name));
    distances
        .filter(|(distance, _)| *distance <= near_enough)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean …?`, or else which names there are.
#[must_use]
pub fn suggest<'a>(text: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(name) = nearest(text, known.clone()) {
        return format!("did you mean `{name}`?");
    }
    match list(known) {
        names if names.is_empty() => "there is none".to_owned(),
        names => format!("known here: {names}"),
    }
}

/// A text in backticks: its first 60 characters, up to a line break or a backtick.
#[must_use]
pub fn quoted(text: &str) -> String {
    let odd = |char: char| char.is_control() || char == '`';
    let shown: String = text.chars().take(60).take_while(|char| !odd(*char)).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("`{shown}{more}`")
}

/// Names in backticks, with commas; after thirty, an ellipsis.
#[must_use]
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<String> = names.by_ref().take(30).map(|name| format!("`{name}`")).collect();
    if names.next().is_some() {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

/// The `s` of a plural.
#[must_use]
pub const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Case and the kind of dash do not make another word.
fn fold(text: &str) -> Vec<char> {
    text.chars().map(|char| if char == '-' { '_' } else { char.to_ascii_lowercase() }).collect()
}

/// How many letters must be put in, left out, changed, or swapped with their neighbour.
fn distance(left: &[char], right: &[char]) -> usize {
    if left.len().abs_diff(right.len()) > 3 {
        return usize::MAX;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    let mut left_before = None;
    for (row, &from) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        let mut right_before = None;
        for (column, &to) in right.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let change = at(&last, column) + usize::from(from != to);
            let step = at(&last, column + 1).min(at(&current, column)) + 1;
            let mut best = change.min(step);
            if left_before == Some(to) && right_before == Some(from) && column > 0 {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
            right_before = Some(to);
        }
        before_last = std::mem::replace(&mut last, current);
        left_before = Some(from);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{list, nearest, quoted, suggest};

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        let known = ["orders", "destinations", "routes", "admin_tokens", "url"];
        for (text, expected) in [
            ("oders", Some("orders")),
            ("ordres", Some("orders")),
            ("Destinations", Some("destinations")),
            ("destination", Some("destinations")),
            ("admin-tokens", Some("admin_tokens")),
            ("uri", Some("url")),
            ("kafka", None),
            ("", None),
            ("名字", None),
        ] {
            assert_eq!(nearest(text, known), expected, "{text}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }

    #[test]
    fn without_a_near_name_the_known_ones_are_listed() {
        assert_eq!(suggest("kafka", ["a", "b"]), "known here: `a`, `b`");
        assert_eq!(suggest("kafka", []), "there is none");
        assert!(list(["x"; 40]).ends_with("`x`, …"));
    }

    #[test]
    fn quotations_are_short_and_of_one_piece() {
        assert_eq!(["名", "a`b", "a\nb", ""].map(quoted), ["`名`", "`a…`", "`a…`", "``"]);
        assert_eq!(quoted(&"x".repeat(61)), format!("`{}…`", "x".repeat(60)));
    }
}
