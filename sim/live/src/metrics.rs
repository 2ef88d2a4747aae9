//! Parses the text format of Prometheus: names, labels, values. It parses only the lines of the
//! wanted metrics, because the API server's page has tens of thousands of lines.

use std::collections::BTreeMap;

/// A sample: one line of the text format.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'a> {
    /// The metric.
    pub name: &'a str,
    labels: &'a str,
    /// Its value.
    pub value: f64,
}

impl<'a> Line<'a> {
    /// Parses a line; none for comments and malformed lines.
    fn read(text: &'a str) -> Option<Self> {
        let end = text.find(['{', ' '])?;
        let (name, rest) = text.split_at(end);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest),
        };
        let value = value.split_ascii_whitespace().next()?.parse().ok()?;
        (!name.starts_with('#')).then_some(Self { name, labels, value })
    }

    /// The value of a label with its escapes; empty if there is no such label.
    pub fn label(&self, name: &str) -> &'a str {
        let mut rest = self.labels;
        while let Some((key, after)) = rest.split_once("=\"") {
            // A quotation mark within a value is escaped by a backslash.
            let mut end = 0;
            let bytes = after.as_bytes();
            while end < bytes.len() && bytes[end] != b'"' {
                end += 1 + usize::from(bytes[end] == b'\\');
            }
            if key.trim_start_matches(',').trim() == name {
                return after.get(..end).unwrap_or_default();
            }
            rest = after.get(end + 1..).unwrap_or_default();
        }
        ""
    }
}

/// The samples of the metrics in `names`.
pub fn lines<'a>(page: &'a str, names: &[&str]) -> impl Iterator<Item = Line<'a>> {
    page.lines().filter_map(move |text| {
        let end = text.find(['{', ' '])?;
        names.contains(&&text[..end]).then(|| Line::read(text)).flatten()
    })
}

/// A histogram: upper bounds in nanoseconds, and the cumulative number of observations up to each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets(BTreeMap<u64, u64>);

impl Buckets {
    /// Adds a `_bucket` sample, whose bound `le` is in seconds. Samples with the same bound are
    /// summed.
    pub fn add(&mut self, line: &Line<'_>) {
        let bound = line.label("le").parse::<f64>().unwrap_or(f64::INFINITY);
        let bound = if bound.is_finite() { (bound * 1e9) as u64 } else { u64::MAX };
        *self.0.entry(bound).or_default() += line.value as u64;
    }

    /// The observations since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let new = |(bound, count): (&u64, &u64)| {
            (*bound, count.saturating_sub(before.0.get(bound).copied().unwrap_or(0)))
        };
        Self(self.0.iter().map(new).collect())
    }

    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.0.values().copied().max().unwrap_or(0)
    }

    /// A quantile in nanoseconds, interpolated like Prometheus' `histogram_quantile`.
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = q * self.count() as f64;
        let (mut bound_below, mut count_below) = (0_u64, 0_u64);
        for (&bound, &count) in &self.0 {
            if count as f64 >= rank && count > count_below {
                if bound == u64::MAX {
                    return bound_below;
                }
                let share = (rank - count_below as f64) / (count - count_below) as f64;
                return bound_below + ((bound - bound_below) as f64 * share.max(0.0)) as u64;
            }
            (bound_below, count_below) = (bound, count);
        }
        bound_below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_line_by_line() {
        let page = "# HELP a x\n# TYPE a counter\na{verb=\"GET\",path=\"/a,b=\\\"c\\\"}\"} 3\nb 4\na 5 170\n";
        let read: Vec<_> = lines(page, &["a"]).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].label("verb"), read[0].value), ("GET", 3.0));
        assert_eq!(read[0].label("path"), "/a,b=\\\"c\\\"}");
        assert_eq!((read[1].label("verb"), read[1].value), ("", 5.0));
    }

    #[test]
    fn quantiles_come_from_the_difference_of_two_scrapes() {
        let page = |counts: [u64; 3]| {
            let line = |(le, n): (&str, u64)| format!("h_bucket{{le=\"{le}\"}} {n}\n");
            ["0.1", "0.2", "+Inf"].into_iter().zip(counts).map(line).collect::<String>()
        };
        let read = |text: &str| {
            let mut buckets = Buckets::default();
            lines(text, &["h_bucket"]).for_each(|line| buckets.add(&line));
            buckets
        };
        let during = read(&page([15, 35, 35])).since(&read(&page([5, 5, 5])));
        assert_eq!(during.count(), 30);
        assert_eq!(during.quantile(0.5), 125_000_000);
    }
}
