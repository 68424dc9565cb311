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
        from given left join program p using (org_id, normalised_name)"#,
        &given.orgs, &given.names, &given.normalised_names, &given.kinds, &given.active,
        &given.ends_at as &[Option<chrono::DateTime<chrono::Utc>>]
    )
    .fetch_all(&mut *connection)
    .await?;
    let counts = Counts::of(&rows);
    if counts.added + counts.changed > 0 {
        sqlx::query!(
            "insert into program as p (org_id, name, normalised_name, kind, active, ends_at)
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

/// Tiers, one array a column. A program that is given has just these tiers, which are known by their names.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the columns of `tier`")]
pub struct Tiers {
    pub orgs: Vec<String>,
    pub normalised_programs: Vec<String>,
    pub ranks: Vec<i16>,
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

/// Merges a whole catalogue in one transaction. Commits of its orgs wait meanwhile, and those that
/// were decided by the catalogue before are decided again (`store::commit`).
///
/// # Errors
///
/// [`Error::Conflict`] if it removes tiers that enrolments are in.
pub async fn catalogue(
    connection: &mut Connection,
    orgs: &Orgs,
    programs: &Programs,
    tiers: &Tiers,
) -> Result<Merged, Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query!(
        "select lock_catalogue(array(select id from org where code = any($1)), true) as lock",
        &orgs.codes
    )
    .fetch_one(&mut *transaction)
    .await?;
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
        r#"select case when t.rank is null then 'added'
            when (t.rank, t.name) <> (g.rank, g.name) then 'changed' else 'unchanged' end as "fate!"
        from unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::text[])
            g (org, program, rank, name, normalised_name)
        join org on org.code = g.org
        join program p on p.org_id = org.id and p.normalised_name = g.program
        left join tier t on t.org_id = p.org_id and t.program_id = p.id
            and t.normalised_name = g.normalised_name"#,
        &given.orgs,
        &given.normalised_programs,
        &given.ranks,
        &given.names,
        &given.normalised_names,
    )
    .fetch_all(&mut *connection)
    .await?;
    let counts = Counts::of(&fates);
    if counts.added + counts.changed > 0 {
        // Ranks pass from one tier to another.
        sqlx::query!("set constraints tier_rank_key deferred").execute(&mut *connection).await?;
        // A tier that was removed before is the same tier again.
        sqlx::query!(
            "update tier t set rank = g.rank, name = g.name
            from unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::text[])
                g (org, program, rank, name, normalised_name)
            join org on org.code = g.org
            join program p on p.org_id = org.id and p.normalised_name = g.program
            where t.org_id = p.org_id and t.program_id = p.id
                and t.normalised_name = g.normalised_name
                and (t.rank, t.name) is distinct from (g.rank, g.name)",
            &given.orgs,
            &given.normalised_programs,
            &given.ranks,
            &given.names,
            &given.normalised_names,
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!(
            "insert into tier (org_id, program_id, number, rank, name, normalised_name)
            select p.org_id, p.id,
                coalesce((select max(number) from tier t where t.org_id = p.org_id and t.program_id = p.id), 0)
                    + row_number() over (partition by p.org_id, p.id order by g.rank),
                g.rank, g.name, g.normalised_name
            from unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::text[])
                g (org, program, rank, name, normalised_name)
            join org on org.code = g.org
            join program p on p.org_id = org.id and p.normalised_name = g.program
            where not exists (select from tier t where t.org_id = p.org_id and t.program_id = p.id
                and t.normalised_name = g.normalised_name)",
            &given.orgs,
            &given.normalised_programs,
            &given.ranks,
            &given.names,
            &given.normalised_names,
        )
        .execute(connection)
        .await?;
    }
    Ok(counts)
}

/// Removes the tiers that are not given, of the programs given. Their rows stay, without a rank: the
/// history names them.
async fn remove_tiers(
    connection: &mut Connection,
    programs: &Programs,
    given: &Tiers,
) -> Result<(), Error> {
    let superfluous = sqlx::query!(
        r#"select t.org_id, t.program_id, t.number, org.code as org, p.name as program, t.name as tier
        from unnest($1::text[], $2::text[]) w (org, program)
        join org on org.code = w.org
        join program p on p.org_id = org.id and p.normalised_name = w.program
        join tier t on t.org_id = p.org_id and t.program_id = p.id and t.rank is not null
        where not exists (
            select from unnest($3::text[], $4::text[], $5::text[]) g (org, program, normalised_name)
            where g.org = w.org and g.program = w.program and g.normalised_name = t.normalised_name)
        order by org.code, p.normalised_name, t.rank desc"#,
        &programs.orgs,
        &programs.normalised_names,
        &given.orgs,
        &given.normalised_programs,
        &given.normalised_names,
    )
    .fetch_all(&mut *connection)
    .await?;
    if superfluous.is_empty() {
        return Ok(());
    }
    let org_ids: Vec<i32> = superfluous.iter().map(|row| row.org_id).collect();
    let program_ids: Vec<i32> = superfluous.iter().map(|row| row.program_id).collect();
    let numbers: Vec<i16> = superfluous.iter().map(|row| row.number).collect();
    // One pass over the orgs' enrolments, however many tiers go.
    let used = sqlx::query!(
        r#"select e.org_id, e.program_id, e.tier_number as "number!", count(*) as "enrolments!"
        from enrolment e
        join unnest($1::int[], $2::int[], $3::smallint[]) d (org_id, program_id, number)
            on d.org_id = e.org_id and d.program_id = e.program_id and d.number = e.tier_number
        where e.linked and e.org_id = any($1)
        group by 1, 2, 3"#,
        &org_ids,
        &program_ids,
        &numbers,
    )
    .fetch_all(&mut *connection)
    .await?;
    if !used.is_empty() {
        let mut in_use: Vec<(String, Vec<String>)> = Vec::new();
        for row in &superfluous {
            let key = (row.org_id, row.program_id, row.number);
            let Some(users) =
                used.iter().find(|used| (used.org_id, used.program_id, used.number) == key)
            else {
                continue;
            };
            let plural = if users.enrolments == 1 { "" } else { "s" };
            let tier = format!("`{}` ({} enrolment{plural})", row.tier, users.enrolments);
            let program = format!("org `{}`, program `{}`", row.org, row.program);
            match in_use.last_mut().filter(|(known, _)| *known == program) {
                Some((_, tiers)) => tiers.push(tier),
                None => in_use.push((program, vec![tier])),
            }
        }
        return Err(Error::Conflict(tiers_in_use(&in_use)));
    }
    sqlx::query!(
        "update tier t set rank = null
        from unnest($1::int[], $2::int[], $3::smallint[]) d (org_id, program_id, number)
        where t.org_id = d.org_id and t.program_id = d.program_id and t.number = d.number",
        &org_ids,
        &program_ids,
        &numbers,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Says for each program which of its tiers are in use. At most so many programs: a file may have any
/// number.
fn tiers_in_use(programs: &[(String, Vec<String>)]) -> String {
    const NAMED_MAX: usize = 10;
    let named = programs.iter().take(NAMED_MAX);
    let named: Vec<String> =
        named.map(|(program, tiers)| format!("{program}: {}", tiers.join(", "))).collect();
    let further = match programs.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        further => format!("; and of {further} more programs"),
    };
    format!(
        "tiers in use can't be removed: {}{further}: nothing was imported; keep them in the program's list, or move these customers to another tier by update commands and import again",
        named.join("; ")
    )
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
