use crate::report::*;

fn facts() -> Facts {
    let fact = |key, title, value, unit| Fact {
        key,
        title,
        value,
        unit,
    };
    Facts(vec![
        fact("cpus", "CPUs", Cell::Number(2.0), ""),
        fact("memory_gib", "memory", Cell::Number(23.44), "GiB"),
    ])
}

fn section() -> Section {
    let mut section = Section::new("load", "calls under load");
    section.note("closed loop");
    let columns = [
        Column::text("system"),
        Column::number("req/s", "", 0),
        Column::number("p50", "µs", 1),
    ];
    let mut table = Table::new("figures", columns);
    table.row([Cell::from("bare | http"), 65_231.4.into(), 12.34.into()]);
    table.row(["µ".into(), Cell::Missing, f64::NAN.into()]);
    section.tables.push(table);
    section
        .tables
        .push(Table::new("empty", [Column::text("x")]));
    section.failures.push("gw: nobody listens".to_owned());
    section
}

#[test]
fn a_terminal_gets_columns_of_equal_width() {
    assert_eq!(terminal_head(&facts()), "CPUs    2\nmemory  23.4 GiB\n");
    let expected = "
load: calls under load
  closed loop

figures:
system        req/s  p50, µs
bare | http  65,231     12.3
µ                 -        -

FAILED: gw: nobody listens
";
    assert_eq!(terminal(&section()), expected);
}

#[test]
fn markdown_aligns_numbers_and_keeps_a_text_in_its_cell() {
    let expected = "
## load: calls under load

- closed loop

figures:

| system | req/s | p50, µs |
| --- | ---: | ---: |
| bare \\| http | 65,231 | 12.3 |
| µ | - | - |

**Failed:** gw: nobody listens
";
    assert_eq!(markdown(&section()), expected);
    assert!(markdown_head(&facts()).contains("| memory | 23.4 GiB |\n"));
}

#[test]
fn json_has_numbers_as_they_were_measured() {
    let found = json(&facts(), &[section()]);
    assert_eq!(found["facts"]["memory_gib"], 23.44);
    assert_eq!(found["facts"]["cpus"], 2);
    let section = &found["sections"][0];
    assert_eq!(section["name"], "load");
    assert_eq!(section["failures"][0], "gw: nobody listens");
    let table = &section["tables"][0];
    assert_eq!(table["columns"][2]["unit"], "µs");
    assert_eq!(table["columns"][0]["unit"], serde_json::Value::Null);
    assert_eq!(table["rows"][0]["req_s"], 65_231.4);
    assert_eq!(table["rows"][0]["system"], "bare | http");
    for missing in ["req_s", "p50"] {
        assert_eq!(table["rows"][1][missing], serde_json::Value::Null);
    }
}

#[test]
fn thousands_have_commas() {
    for (number, decimals, expected) in [
        (0.0, 0, "0"),
        (999.0, 0, "999"),
        (999.5, 0, "1,000"),
        (1_234_567.891, 2, "1,234,567.89"),
        (-1234.5, 1, "-1,234.5"),
        (-0.01, 1, "0.0"),
    ] {
        assert_eq!(grouped(number, decimals), expected);
    }
}

#[test]
#[should_panic(expected = "of figures")]
fn a_row_has_a_cell_for_each_column() {
    Table::new("figures", [Column::text("a"), Column::text("b")]).row([Cell::Missing]);
}
