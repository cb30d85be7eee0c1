//! How long files and functions are. The goal is where good code bases are; the limits are where a reader is lost.

use super::{
    Report,
    source::{File, Function, functions},
};

const FILE_LIMIT: usize = 500;
const FUNCTION_GOAL: usize = 60;
const FUNCTION_LIMIT: usize = 120;
/// Per mille of the functions that may be longer than the goal.
const LONG_SHARE: usize = 30;

/// Measures all files.
pub(super) fn check(files: &[File], report: &mut Report) {
    let mut lengths: Vec<usize> = files.iter().map(|f| f.text.lines().count()).collect();
    lengths.sort_unstable();
    report.figure("files", lengths.len());
    report.figure("lines", lengths.iter().sum());
    report.figure("file length, median", quantile(&lengths, 50));
    report.figure("file length, p90", quantile(&lengths, 90));
    report.figure("file length, longest", quantile(&lengths, 100));
    for file in files {
        let length = file.text.lines().count();
        if length >= FILE_LIMIT {
            let problem = format!("{length} lines; the limit is {FILE_LIMIT}");
            report.fail("file length", &file.path, None, problem);
        }
    }
    check_functions(files, report);
}

fn check_functions(files: &[File], report: &mut Report) {
    let all: Vec<(&File, Function)> = files
        .iter()
        .flat_map(|file| functions(&file.code).into_iter().map(move |f| (file, f)))
        .collect();
    let mut lengths: Vec<usize> = all.iter().map(|(_, f)| f.lines).collect();
    lengths.sort_unstable();
    let long: Vec<_> = all
        .iter()
        .filter(|(_, f)| f.lines > FUNCTION_GOAL)
        .collect();
    report.figure("functions", all.len());
    report.figure("function length, median", quantile(&lengths, 50));
    report.figure("function length, p90", quantile(&lengths, 90));
    report.figure("function length, longest", quantile(&lengths, 100));
    report.figure("functions over 60 lines", long.len());
    let too_many = long.len() * 1000 > all.len() * LONG_SHARE;
    for (file, function) in long {
        if too_many || function.lines > FUNCTION_LIMIT {
            let problem = format!("`{}` has {} lines", function.name, function.lines);
            report.fail("function length", &file.path, function.line, problem);
        }
    }
}

/// The value that `percent` of the sorted values do not exceed; 0 for none.
fn quantile(sorted: &[usize], percent: usize) -> usize {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occur() {
        assert_eq!(quantile(&[], 50), 0);
        assert_eq!(quantile(&[7], 90), 7);
        assert_eq!(quantile(&[1, 2, 3, 4], 50), 2);
        assert_eq!(quantile(&[1, 2, 3, 4], 100), 4);
    }

    #[test]
    fn a_long_function_is_named() {
        let body = "    x();\n".repeat(FUNCTION_LIMIT);
        let text = format!("fn long() {{\n{body}}}\n");
        let file = File {
            path: "a.rs".into(),
            code: text.clone(),
            text,
        };
        let mut report = Report::default();
        check(&[file], &mut report);
        assert_eq!(report.failures.len(), 1);
        assert!(report.failures[0].problem.contains("`long` has 122 lines"));
    }
}
