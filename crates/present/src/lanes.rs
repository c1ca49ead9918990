//! The lines next to a list of stages that show their dependencies, as `git log --graph` draws commits.
//!
//! Each stage has a row. A lane goes down from it to the last stage that needs it; above a stage, one row joins the
//! lanes of the stages that it needs. A lane that a join crosses without belonging to it interrupts the join's line.

use std::collections::BTreeSet;

/// A picture with more lanes than this would not help.
const LANES_AT_MOST: usize = 24;

/// One row of the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The lines, without blanks at the end.
    pub lines: String,
    /// The stage whose row it is; `None` for a join above one.
    pub stage: Option<usize>,
}

/// Draws stages, given the indices of the stages that each needs. `None` if a picture would not help: too many lanes,
/// or a cycle.
pub fn draw(needs: &[Vec<usize>]) -> Option<Vec<Row>> {
    let needs: Vec<BTreeSet<usize>> = needs
        .iter()
        .map(|needs| needs.iter().copied().collect())
        .collect();
    let mut waiting = vec![0_usize; needs.len()];
    for need in needs.iter().flatten() {
        *waiting.get_mut(*need)? += 1;
    }
    let mut picture = Picture {
        lanes: Vec::new(),
        waiting,
        rows: Vec::new(),
    };
    for stage in order(&needs)? {
        picture.add(stage, &needs[stage]);
        if picture.lanes.len() > LANES_AT_MOST {
            return None;
        }
    }
    Some(picture.rows)
}

/// All indices, each after the stages that it needs, otherwise in their own order. `None` if there is a cycle.
pub fn order(needs: &[BTreeSet<usize>]) -> Option<Vec<usize>> {
    let mut left: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    let mut dependents = vec![Vec::new(); needs.len()];
    for (stage, needed) in needs.iter().enumerate() {
        for need in needed {
            dependents.get_mut(*need)?.push(stage);
        }
    }
    let mut ready: BTreeSet<usize> = (0..needs.len()).filter(|stage| left[*stage] == 0).collect();
    let mut order = Vec::with_capacity(needs.len());
    while let Some(stage) = ready.pop_first() {
        order.push(stage);
        for dependent in &dependents[stage] {
            left[*dependent] -= 1;
            if left[*dependent] == 0 {
                ready.insert(*dependent);
            }
        }
    }
    (order.len() == needs.len()).then_some(order)
}

struct Picture {
    /// The stage that each lane comes from.
    lanes: Vec<Option<usize>>,
    /// For each stage, how many stages that need it are not drawn yet.
    waiting: Vec<usize>,
    rows: Vec<Row>,
}

impl Picture {
    fn add(&mut self, stage: usize, needs: &BTreeSet<usize>) {
        let joined: Vec<usize> = (0..self.lanes.len())
            .filter(|lane| self.lanes[*lane].is_some_and(|from| needs.contains(&from)))
            .collect();
        for need in needs {
            self.waiting[*need] -= 1;
        }
        let ending: Vec<usize> = joined
            .iter()
            .copied()
            .filter(|lane| self.lanes[*lane].is_some_and(|from| self.waiting[from] == 0))
            .collect();
        let place = ending.first().copied().unwrap_or_else(|| {
            let free = self.lanes.iter().position(Option::is_none);
            free.unwrap_or(self.lanes.len())
        });
        if place == self.lanes.len() {
            self.lanes.push(None);
        }
        if !joined.is_empty() {
            self.join(place, &joined, &ending);
        }
        for lane in ending {
            self.lanes[lane] = None;
        }
        let mut lines = String::new();
        for (lane, from) in self.lanes.iter().enumerate() {
            lines.push_str(match (lane == place, from) {
                (true, _) => "● ",
                (false, Some(_)) => "│ ",
                (false, None) => "  ",
            });
        }
        self.rows.push(Row {
            lines: lines.trim_end().to_owned(),
            stage: Some(stage),
        });
        self.lanes[place] = (self.waiting[stage] > 0).then_some(stage);
    }

    /// The row above the stage at `place` that joins lanes to it.
    fn join(&mut self, place: usize, joined: &[usize], ending: &[usize]) {
        let ends = || joined.iter().copied().chain([place]);
        let (first, last) = (ends().min().unwrap_or(place), ends().max().unwrap_or(place));
        let mut lines = String::new();
        for (lane, from) in self.lanes.iter().enumerate() {
            let belongs = lane == place || joined.contains(&lane);
            let above = from.is_some();
            let below = lane == place || (above && !ending.contains(&lane));
            let (left, right) = (lane > first && lane <= last, lane >= first && lane < last);
            lines.push(if belongs {
                corner(above, below, left, right)
            } else if above {
                '│'
            } else if left && right {
                '─'
            } else {
                ' '
            });
            lines.push(if right { '─' } else { ' ' });
        }
        self.rows.push(Row {
            lines: lines.trim_end().to_owned(),
            stage: None,
        });
    }
}

const fn corner(above: bool, below: bool, left: bool, right: bool) -> char {
    match (above, below, left, right) {
        (true, true, true, true) => '┼',
        (true, true, true, false) => '┤',
        (true, true, false, true) => '├',
        (true, false, true, true) => '┴',
        (true, false, true, false) => '╯',
        (true, false, false, true) => '╰',
        (false, true, true, true) => '┬',
        (false, true, true, false) => '╮',
        (false, true, false, true) => '╭',
        (false, false, _, _) => '─',
        (_, _, false, false) => '│',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(needs: &[&[usize]]) -> String {
        let needs: Vec<Vec<usize>> = needs.iter().map(|needs| needs.to_vec()).collect();
        let rows = draw(&needs).unwrap();
        let lines = rows.iter().map(|row| match row.stage {
            Some(stage) => format!("{} {stage}\n", row.lines),
            None => format!("{}\n", row.lines),
        });
        lines.collect()
    }

    #[test]
    fn a_chain_is_one_lane() {
        insta::assert_snapshot!(picture(&[&[], &[0], &[1]]), @"
        ● 0
        │
        ● 1
        │
        ● 2
        ");
    }

    #[test]
    fn stages_that_need_nothing_have_no_line_between_them() {
        insta::assert_snapshot!(picture(&[&[], &[], &[]]), @"
        ● 0
        ● 1
        ● 2
        ");
    }

    #[test]
    fn a_diamond_parts_and_joins() {
        insta::assert_snapshot!(picture(&[&[], &[0], &[0], &[1, 2]]), @"
        ● 0
        ├─╮
        │ ● 1
        │ │
        ● │ 2
        ├─╯
        ● 3
        ");
    }

    #[test]
    fn what_is_needed_by_several_keeps_its_lane_to_the_last_of_them() {
        insta::assert_snapshot!(
            picture(&[&[], &[], &[], &[0, 2], &[0, 1, 3], &[2], &[4, 5]]),
            @"
        ● 0
        │ ● 1
        │ │ ● 2
        ├─│─┼─╮
        │ │ │ ● 3
        ├─┴─│─╯
        ●   │ 4
        │   │
        │   ● 5
        ├───╯
        ● 6
        "
        );
    }

    #[test]
    fn a_file_may_name_stages_before_what_they_need() {
        let needs = [vec![2], vec![0], vec![]];
        let stages: Vec<usize> = draw(&needs)
            .unwrap()
            .iter()
            .filter_map(|row| row.stage)
            .collect();
        assert_eq!(stages, [2, 0, 1]);
    }

    #[test]
    fn there_is_no_picture_of_too_many_lanes_or_of_a_cycle() {
        let mut needs = vec![Vec::new(); 40];
        needs.push((0..40).collect());
        assert_eq!(draw(&needs), None);
        assert_eq!(draw(&[vec![1], vec![0]]), None);
        assert_eq!(draw(&[vec![7]]), None);
    }
}
