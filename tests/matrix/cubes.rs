//! Joins cells of a table with many dimensions into as few blocks as it finds, so that a person can read it.
//!
//! A block is a set of values for each dimension. Two blocks that differ in one dimension only, and in nothing else, are one.

use std::collections::BTreeMap;

/// One set of values per dimension, as bits.
pub(crate) type Block = Vec<u32>;

/// Joins blocks of equal content, trying the dimensions in this order until nothing changes.
pub(crate) fn join(mut blocks: Vec<(Block, String)>, order: &[usize]) -> Vec<(Block, String)> {
    loop {
        let before = blocks.len();
        for dimension in order {
            let mut joined: BTreeMap<(Block, String), u32> = BTreeMap::new();
            for (mut block, content) in blocks {
                let values = std::mem::take(&mut block[*dimension]);
                *joined.entry((block, content)).or_default() |= values;
            }
            blocks = joined
                .into_iter()
                .map(|((mut block, content), values)| {
                    block[*dimension] = values;
                    (block, content)
                })
                .collect();
        }
        if blocks.len() == before {
            return blocks;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_disappears() {
        let cell = |a: u32, b: u32, content: &str| (vec![1 << a, 1 << b], content.to_owned());
        let cells = vec![cell(0, 0, "x"), cell(0, 1, "x"), cell(1, 0, "x"), cell(1, 1, "y")];
        let blocks = join(cells, &[0, 1]);
        assert_eq!(blocks.len(), 3);
        assert!(blocks.contains(&(vec![3, 1], "x".to_owned())) && blocks.contains(&(vec![2, 2], "y".to_owned())), "{blocks:?}");
    }

    #[test]
    fn no_cell_is_lost() {
        let cells: Vec<_> = (0..32u32).map(|cell| (vec![1 << (cell % 4), 1 << (cell / 4)], (cell % 3).to_string())).collect();
        let volume: u32 =
            join(cells, &[1, 0]).iter().map(|(block, _)| block.iter().map(|values| values.count_ones()).product::<u32>()).sum();
        assert_eq!(volume, 32);
    }
}
