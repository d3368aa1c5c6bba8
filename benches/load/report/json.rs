//! For programs: numbers as they were measured, `null` where there is none.

use serde_json::{Map, Value, json};

use super::{Cell, Facts, Section, Table};

/// The whole report.
pub(crate) fn json(facts: &Facts, sections: &[Section]) -> Value {
    let facts: Map<String, Value> = facts
        .0
        .iter()
        .map(|fact| (fact.key.to_owned(), value(&fact.value)))
        .collect();
    let sections: Vec<Value> = sections
        .iter()
        .map(|section| {
            json!({
                "name": section.name,
                "title": section.title,
                "notes": section.notes,
                "tables": section.tables.iter().map(table).collect::<Vec<_>>(),
                "failures": section.failures,
            })
        })
        .collect();
    json!({"facts": facts, "sections": sections})
}

fn table(table: &Table) -> Value {
    let columns: Vec<Value> = table
        .columns
        .iter()
        .map(|column| {
            let unit = Some(column.unit).filter(|unit| !unit.is_empty());
            json!({"key": column.key(), "title": column.title, "unit": unit})
        })
        .collect();
    let rows: Vec<Value> = table
        .rows
        .iter()
        .map(|row| {
            let cells = table.columns.iter().zip(row);
            let members = cells.map(|(column, cell)| (column.key(), value(cell)));
            Value::Object(members.collect())
        })
        .collect();
    json!({"title": table.title, "columns": columns, "rows": rows})
}

/// The integers below it are exact in a double.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// Infinity and NaN are no JSON: they become null.
#[allow(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Text(text) => json!(text),
        // Counts as such: 2, not 2.0.
        Cell::Number(number) if number.fract() == 0.0 && number.abs() < LARGEST_EXACT => {
            json!(*number as i64)
        }
        Cell::Number(number) => json!(number),
        Cell::Missing => Value::Null,
    }
}
