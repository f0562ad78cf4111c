//! What keeps a small command from a large cost: offsets and counts, looked at before anything is sent.

use super::table::{Bound, Rule};
use super::{Error, Result, VALUE_BYTES_MAX, number, refused, upper};

/// Elements that one command may ask for or step over.
const COUNT_MAX: u64 = 1000;

pub(super) fn check(rule: &Rule, keys: &[usize], arguments: &[Vec<u8>]) -> Result<()> {
    let bits = (VALUE_BYTES_MAX as u64) * 8;
    let small = |count: Option<i64>| count.is_none_or(|count| count.unsigned_abs() <= COUNT_MAX);
    let is_bounded = match rule.bound {
        Bound::Small | Bound::Whole | Bound::Appends => true,
        Bound::Count(at) => small(number(arguments.get(at))),
        Bound::CountOption => {
            let behind = arguments.iter().skip(keys.len()).zip(arguments.iter().skip(keys.len() + 1));
            behind.filter(|(option, _)| upper(option) == b"COUNT").all(|(_, count)| small(number(Some(count))))
        }
        Bound::Bit(at) => number(arguments.get(at)).is_none_or(|bit| bit.unsigned_abs() < bits),
        Bound::Byte(at) => {
            let more = arguments.get(at + 1).map_or(0, Vec::len) as u64;
            number(arguments.get(at)).is_none_or(|byte| byte.unsigned_abs().saturating_add(more) <= bits / 8)
        }
        Bound::Bitfield => {
            // Whatever is a number there is a type's width, an offset or a value; only an offset can be large, and
            // behind a `#` it counts by widths.
            let pairs = arguments.windows(3).filter(|window| {
                matches!(upper(window.first().map_or(&[][..], Vec::as_slice)).as_slice(), b"GET" | b"SET" | b"INCRBY")
            });
            pairs.filter_map(|window| window.get(2)).all(|offset| {
                let (text, width) = match offset.strip_prefix(b"#") {
                    Some(text) => (text.to_vec(), 64),
                    None => (offset.clone(), 1),
                };
                number(Some(&text)).is_none_or(|at| at.unsigned_abs().saturating_mul(width) < bits - 64)
            })
        }
        Bound::SameDatabase => {
            if arguments.iter().skip(2).any(|option| upper(option) == b"DB") {
                return Err(refused(rule.name, "DB names another database"));
            }
            true
        }
    };
    if is_bounded { Ok(()) } else { Err(Error::TooLarge("an offset or a count may reach 1 MiB, or 1000 elements")) }
}
