//! Merges a catalogue's orgs, programs and tiers.
//!
//! Statement triggers raise the catalogue's version even for no row, so nothing is written
//! where nothing differs.

use sqlx::Connection as _;

use crate::store::connection::Connection;
use crate::store::error::Error;

/// What became of the rows of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Not there before.
    pub added: i64,
    /// There, with other contents.
    pub changed: i64,
    /// As given already.
    pub unchanged: i64,
}

/// Adds and changes orgs, by code.
async fn orgs(
    connection: &mut Connection,
    codes: &[String],
    names: &[String],
    country_codes: &[String],
) -> Result<Counts, Error> {
    let counts = sqlx::query_as!(
        Counts,
        r#"select count(*) filter (where org.id is null) as "added!",
            count(*) filter (where (org.name, org.country_code) <> (given.name, given.country_code))
                as "changed!",
            count(*) filter (where (org.name, org.country_code) = (given.name, given.country_code))
                as "unchanged!"
        from unnest($1::text[], $2::text[], $3::text[]) given (code, name, country_code)
        left join org on org.code = given.code"#,
        codes,
        names,
        country_codes
    )
    .fetch_one(&mut *connection)
    .await?;
    if counts.added + counts.changed > 0 {
        sqlx::query!(
            "insert into org (code, name, country_code)
            select * from unnest($1::text[], $2::text[], $3::text[])
            on conflict (code) do update
            set name = excluded.name, country_code = excluded.country_code
            where (org.name, org.country_code) is distinct from (excluded.name, excluded.country_code)",
            codes,
            names,
            country_codes
        )
        .execute(connection)
        .await?;
    }
    Ok(counts)
}

/// Programs, one array a column; `orgs` holds codes.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the columns of `partner_program`")]
pub struct Programs {
    pub orgs: Vec<String>,
    pub names: Vec<String>,
    pub normalised_names: Vec<String>,
    pub kinds: Vec<String>,
    pub active: Vec<bool>,
    pub ends_at: Vec<Option<chrono::DateTime<chrono::Utc>>>,
}

/// Adds and changes programs, by normalised name; those not given are left alone.
async fn programs(connection: &mut Connection, given: &Programs) -> Result<Counts, Error> {
    let rows = sqlx::query_scalar!(
        r#"with given as (
            select org.id as org_id, g.name, g.normalised_name, g.kind, g.active, g.ends_at
            from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::timestamptz[])
                g (org, name, normalised_name, kind, active, ends_at)
            join org on org.code = g.org
        )
        select case when p.id is null then 'added'
            when (p.name, p.kind, p.active, p.ends_at)
                is distinct from (given.name, given.kind, given.active, given.ends_at) then 'changed'
            else 'unchanged' end as "fate!"
        from given left join partner_program p using (org_id, normalised_name)"#,
        &given.orgs, &given.names, &given.normalised_names, &given.kinds, &given.active,
        &given.ends_at as &[Option<chrono::DateTime<chrono::Utc>>]
    )
    .fetch_all(&mut *connection)
    .await?;
    let counts = Counts::of(&rows);
    if counts.added + counts.changed > 0 {
        sqlx::query!(
            "insert into partner_program as p (org_id, name, normalised_name, kind, active, ends_at)
            select org.id, g.name, g.normalised_name, g.kind, g.active, g.ends_at
            from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::timestamptz[])
                g (org, name, normalised_name, kind, active, ends_at)
            join org on org.code = g.org
            on conflict (org_id, normalised_name) do update set name = excluded.name,
                kind = excluded.kind, active = excluded.active, ends_at = excluded.ends_at
            where (p.name, p.kind, p.active, p.ends_at) is distinct from
                (excluded.name, excluded.kind, excluded.active, excluded.ends_at)",
            &given.orgs, &given.names, &given.normalised_names, &given.kinds, &given.active,
            &given.ends_at as &[Option<chrono::DateTime<chrono::Utc>>]
        )
        .execute(connection)
        .await?;
    }
    Ok(counts)
}

/// Orgs, one array a column.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the columns of `org`")]
pub struct Orgs {
    pub codes: Vec<String>,
    pub names: Vec<String>,
    pub country_codes: Vec<String>,
}

/// Tiers, one array a column. A program that is given has just these tiers.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the columns of `tier`")]
pub struct Tiers {
    pub orgs: Vec<String>,
    pub normalised_programs: Vec<String>,
    pub numbers: Vec<i16>,
    pub names: Vec<String>,
    pub normalised_names: Vec<String>,
}

/// What became of a catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "one for each kind")]
pub struct Merged {
    pub orgs: Counts,
    pub programs: Counts,
    pub tiers: Counts,
}

/// Merges a whole catalogue in one transaction.
///
/// # Errors
///
/// [`Error::Conflict`] if it takes away a tier that enrolments are in.
pub async fn catalogue(
    connection: &mut Connection,
    orgs: &Orgs,
    programs: &Programs,
    tiers: &Tiers,
) -> Result<Merged, Error> {
    let mut transaction = connection.begin().await?;
    let merged = Merged {
        orgs: self::orgs(&mut transaction, &orgs.codes, &orgs.names, &orgs.country_codes).await?,
        programs: self::programs(&mut transaction, programs).await?,
        tiers: self::tiers(&mut transaction, programs, tiers).await?,
    };
    transaction.commit().await?;
    Ok(merged)
}

async fn tiers(
    connection: &mut Connection,
    programs: &Programs,
    given: &Tiers,
) -> Result<Counts, Error> {
    remove_tiers(&mut *connection, programs, given).await?;
    let fates = sqlx::query_scalar!(
        r#"select case when t.number is null then 'added'
            when t.name <> g.name then 'changed' else 'unchanged' end as "fate!"
        from unnest($1::text[], $2::text[], $3::smallint[], $4::text[])
            g (org, program, number, name)
        join org on org.code = g.org
        join partner_program p on p.org_id = org.id and p.normalised_name = g.program
        left join tier t on t.org_id = p.org_id and t.program_id = p.id and t.number = g.number"#,
        &given.orgs,
        &given.normalised_programs,
        &given.numbers,
        &given.names,
    )
    .fetch_all(&mut *connection)
    .await?;
    let counts = Counts::of(&fates);
    if counts.added + counts.changed > 0 {
        // Names may pass from one tier to another.
        sqlx::query!("set constraints tier_name_key deferred").execute(&mut *connection).await?;
        sqlx::query!(
            "insert into tier as t (org_id, program_id, number, name, normalised_name)
            select p.org_id, p.id, g.number, g.name, g.normalised_name
            from unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::text[])
                g (org, program, number, name, normalised_name)
            join org on org.code = g.org
            join partner_program p on p.org_id = org.id and p.normalised_name = g.program
            on conflict (org_id, program_id, number) do update
            set name = excluded.name, normalised_name = excluded.normalised_name
            where t.name <> excluded.name",
            &given.orgs,
            &given.normalised_programs,
            &given.numbers,
            &given.names,
            &given.normalised_names,
        )
        .execute(connection)
        .await?;
    }
    Ok(counts)
}

/// Removes the tiers above those given, of the programs given.
async fn remove_tiers(
    connection: &mut Connection,
    programs: &Programs,
    given: &Tiers,
) -> Result<(), Error> {
    let superfluous = sqlx::query!(
        r#"select t.org_id, t.program_id, t.number, p.name as program, t.name as tier,
            exists (select from enrolment e where e.org_id = t.org_id
                and e.program_id = t.program_id and e.tier_number = t.number) as "used!"
        from unnest($1::text[], $2::text[]) w (org, program)
        join org on org.code = w.org
        join partner_program p on p.org_id = org.id and p.normalised_name = w.program
        join tier t on t.org_id = p.org_id and t.program_id = p.id
        where not exists (
            select from unnest($3::text[], $4::text[], $5::smallint[]) g (org, program, number)
            where g.org = w.org and g.program = w.program and g.number = t.number)"#,
        &programs.orgs,
        &programs.normalised_names,
        &given.orgs,
        &given.normalised_programs,
        &given.numbers,
    )
    .fetch_all(&mut *connection)
    .await?;
    if let Some(row) = superfluous.iter().find(|row| row.used) {
        return Err(Error::Conflict(format!(
            "program `{}`: its tier `{}` has enrolments and can't be left out: keep it in the list",
            row.program, row.tier
        )));
    }
    if superfluous.is_empty() {
        return Ok(());
    }
    let org_ids: Vec<i32> = superfluous.iter().map(|row| row.org_id).collect();
    let program_ids: Vec<i32> = superfluous.iter().map(|row| row.program_id).collect();
    let numbers: Vec<i16> = superfluous.iter().map(|row| row.number).collect();
    sqlx::query!(
        "delete from tier t using unnest($1::int[], $2::int[], $3::smallint[])
            d (org_id, program_id, number)
        where t.org_id = d.org_id and t.program_id = d.program_id and t.number = d.number",
        &org_ids,
        &program_ids,
        &numbers,
    )
    .execute(connection)
    .await?;
    Ok(())
}

impl Counts {
    fn of(fates: &[String]) -> Self {
        let mut counts = Self::default();
        for fate in fates {
            match fate.as_str() {
                "added" => counts.added += 1,
                "changed" => counts.changed += 1,
                _ => counts.unchanged += 1,
            }
        }
        counts
    }
}
