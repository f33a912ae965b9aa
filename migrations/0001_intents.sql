-- The outbox and the door to it: what may be asked, and how a bad question is refused.
--
-- The runner has created the schema and has run `set local search_path to <schema>, pg_temp`. Names here are unqualified,
-- and `set search_path from current` pins that path to each function: pg_temp last, so that nobody can slip a temporary
-- table under a function that runs with its owner's rights.
--
-- A refusal of the table carries SQLSTATE 23514 (23505: the reference is taken; 55000: a row is there for good), SCHEMA,
-- TABLE, CONSTRAINT, COLUMN, a MESSAGE for people and a HINT that says what to do. The constraint names are the error
-- catalogue of SQL, HTTP and CLI alike: a name, once given, keeps its meaning. A message quotes at most 60 characters of
-- what the caller sent, as a JSON string, so that no control character reaches a log.
--
-- What a producer needs: usage on the schema; insert and select on intents; execute on new_id, enqueue, enqueue_json.


-- Identity ------------------------------------------------------------------------------------------------------------

-- RFC 9562: 48 bits of milliseconds, '7', 12 bits of the millisecond's fraction, then the variant and 62 random bits, which
-- gen_random_uuid() has in the right places already. clock_timestamp(), not now(): the ids of one transaction are in the
-- order in which they were made.
--
-- No path of its own, so that the planner may put its body where it is called: called, it takes three times as long, and each
-- INSERT makes two. What it uses is named with its schema instead.
create function new_id() returns uuid
language sql volatile
as $$
    select (pg_catalog.overlay(
                pg_catalog.lpad(pg_catalog.to_hex(pg_catalog.floor(
                    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) operator(pg_catalog.*) 4096000)::pg_catalog.int8), 15, '0'),
                '7', 13, 0)
            operator(pg_catalog.||) pg_catalog.substr(pg_catalog.gen_random_uuid()::pg_catalog.text, 20))::pg_catalog.uuid
$$;
comment on function new_id() is
    'A time-ordered uuid (version 7): the default of intents.id. Call it to know an intent''s id before the insert.';


-- What currencies and providers allow ---------------------------------------------------------------------------------

create table currencies (
    code     text collate "C" primary key check (code ~ '^[A-Z]{3}$'),
    exponent smallint not null check (exponent between 0 and 4)
);
comment on table currencies is
    'The active codes of ISO 4217 that have a minor unit, as of 2026-01-01 (metals, test codes and the like have none).';
comment on column currencies.exponent is
    'Decimal digits of the minor unit: JPY 0, USD 2, KWD 3.';

insert into currencies (code, exponent)
select code, exponent
from (values
    (0, 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF'),
    (2, 'AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY '
        'COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS '
        'INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR '
        'MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP '
        'STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG'),
    (3, 'BHD IQD JOD KWD LYD OMR TND'),
    (4, 'CLF UYW')
) as listed(exponent, codes), unnest(string_to_array(codes, ' ')) as code;

create table providers (
    name               text collate "C" primary key check (name ~ '^[a-z][a-z0-9_-]{0,30}$'),
    currencies         text[] check (cardinality(currencies) > 0),
    most_decimals      smallint not null,
    least_amount       numeric check (least_amount > 0),
    payment_id_pattern text,
    payment_id_is      text,
    check ((payment_id_pattern is null) = (payment_id_is is null))
);
comment on table providers is
    'The providers that an intent may name, and what each would refuse anyway: refused at the insert, the mistake is found by
the developer who made it and not by a dead letter.';
comment on column providers.currencies is 'The currencies it takes; null: any.';
comment on column providers.most_decimals is 'The most decimals that an amount may have on its wire.';
comment on column providers.least_amount is 'The least amount it captures, in whole units of the currency (1.00); null: any.';
comment on column providers.payment_id_pattern is 'What its payment ids look like, a regular expression; null: anything.';
comment on column providers.payment_id_is is 'The same in words.';

insert into providers (name, currencies, most_decimals, least_amount, payment_id_pattern, payment_id_is) values
    -- An order id that is not digits answers 404; below 1.00 answers 422 invalid_amount.
    ('afterpay', '{AUD,CAD,EUR,GBP,NZD,USD}', 2, 1.00, '^[0-9]+$', 'Afterpay''s own id of the payment, digits only; not your order number'),
    ('optty', null, 2, null, null, null),
    -- Its amounts carry no currency: they are US dollars.
    ('resolve', '{USD}', 2, null, null, null);


-- The outbox ----------------------------------------------------------------------------------------------------------

-- No enum, domain, composite or generated column: drivers and mappers trip over them.
--
-- The texts of the unique key are collate "C": a byte order that no upgrade of the operating system changes. An index in a
-- collation that changed under it may miss a duplicate, and a missed duplicate is a second capture.
--
-- The bounds of the amounts: 10^15 - 1 is exact in a reader that takes JSON numbers for doubles (up to 2^53), and the sum
-- of 9,000 such captures still fits 64 bits. The bounds of the times keep out infinity, which clients cannot read, and
-- milliseconds taken for seconds.
--
-- The CHECKs stand behind the trigger, under the same names, where it does not fire (session_replication_role). Only those
-- that keep money right, or a worker from falling over what it cannot read: Postgres reads each CHECK anew for every
-- statement, 2 to 4 µs; all 22 rules cost a single-row INSERT 60 µs, more than the trigger (10 to 20 µs), and refused nothing
-- that the trigger lets in. (trunc(x, 0), because trunc(x) is a function in SQL, which each INSERT would parse: 10 µs.)
create table intents (
    id                       uuid primary key default new_id(),
    provider                 text collate "C" not null,
    account                  text collate "C" not null default 'default',
    order_id                 text collate "C" not null,
    payment_id               text collate "C" not null,
    capture_ref              text collate "C" not null,
    amount_minor             numeric not null,
    currency                 text collate "C" not null,
    authorized_minor         numeric,
    authorization_expires_at timestamptz,
    hold                     text,
    not_before               timestamptz,
    priority                 smallint not null default 0,
    details                  jsonb not null default '{}',
    traceparent              text,
    created_at               timestamptz not null default now(),

    constraint intents_capture_ref_unique unique (provider, account, payment_id, capture_ref),
    constraint intents_amount_whole check (amount_minor = trunc(amount_minor, 0)),
    constraint intents_amount_positive check (amount_minor > 0),
    constraint intents_amount_bounded check (amount_minor <= 999999999999999),
    -- (and within the bounds of an amount: what a worker cannot read, not even NaN, would stop it at every claim)
    constraint intents_authorized_covers_amount check (authorized_minor between amount_minor and 999999999999999),
    constraint intents_currency_known check (currency ~ '^[A-Z]{3}$'),
    constraint intents_hold_known check (hold = 'shipment'),
    constraint intents_details_object check (jsonb_typeof(details) = 'object'),
    constraint intents_times_plausible check (
        greatest(created_at, authorization_expires_at, not_before) < '2200-01-01Z'
        and least(created_at, authorization_expires_at, not_before) >= '2000-01-01Z')
);

comment on table intents is
    'The outbox: one row asks for one capture of one authorised payment. Insert it in the transaction of your order, or call
enqueue(). A row is never updated or deleted; what becomes of it is in the view status and in events. A bad row is refused
with SQLSTATE 23514 and a hint. A null in a column that has a default means the default.';
comment on column intents.id is
    'Time-ordered uuid, made by the database unless you give one (not the nil uuid). It is also the reference under which the provider files the capture.';
comment on column intents.provider is
    'Who authorised the payment: afterpay, optty or resolve.';
comment on column intents.account is
    'Which of your merchant accounts at the provider: a name from the worker''s configuration. Lower-case letters, digits, - and _, at most 63.';
comment on column intents.order_id is
    'Your own order number. 1 to 255 printable characters, no blank at either end.';
comment on column intents.payment_id is
    'The authorised payment at the provider: Afterpay order id (digits), Optty order reference, Resolve charge or order id. 1 to 255 printable characters, no blank at either end.';
comment on column intents.capture_ref is
    'Your own reference of this capture, unique for ever per (provider, account, payment_id): it is what makes a repeated insert harmless. Derive it from the order (invoice-17), not from the clock. 1 to 255 printable characters, no blank at either end.';
comment on column intents.amount_minor is
    'How much to capture, in whole minor units of the currency: 1234 for 12.34 USD, 1234 for 1234 JPY. From 1 to 999999999999999. numeric, because 12.34 sent to a bigint silently becomes 12.';
comment on column intents.currency is
    'ISO 4217 code in capitals: USD.';
comment on column intents.authorized_minor is
    'What was authorised in all, in whole minor units, if you know it: captures beyond it are then refused. The newest row of a payment that gives it counts for the payment.';
comment on column intents.authorization_expires_at is
    'When the authorisation ends, if you know it. Nothing is sent after it. A row that comes too late is refused.';
comment on column intents.hold is
    'Null: capture at once. shipment: wait for a release().';
comment on column intents.not_before is
    'Do not capture before this time. Null or past: at once.';
comment on column intents.priority is
    'Smaller goes first, -32768 to 32767.';
comment on column intents.details is
    'What goes along with the capture, a JSON object: description, shipping {company, method, tracking_number} (all three), merchant_reference (at most 128 characters; overwrites the order''s at Afterpay for ever), order_number, po_number (override the charge''s at Resolve). Strings of 1 to 255 characters; null: not given.';
comment on column intents.traceparent is
    'W3C trace context of the inserting transaction. One that is malformed is dropped and becomes null, as the W3C says: a trace is not worth a sale.';
comment on column intents.created_at is
    'When it was inserted, by the database''s clock (the start of the transaction).';


-- What is refused -----------------------------------------------------------------------------------------------------

-- What is already asked for on a payment in a currency, one capture left out, and the newest word on what was authorised.
-- It sees what the caller's transaction sees, rows that the same INSERT brought a moment ago included (volatile: a fresh
-- snapshot). Two transactions side by side may together ask for too much, and the claim decides. It counts every sibling,
-- for nothing here knows how one ended; a later migration replaces it, with the same signature, to leave out those that
-- ended without money. Only called for a payment that has other intents.
create function captures_beside(
    of_provider text, of_account text, of_payment text, of_currency text, but_for text,
    out asked_minor numeric, out authorized_minor numeric)
language sql volatile
set search_path from current
set enable_seqscan = off set jit = off
as $$
    select coalesce(sum(i.amount_minor), 0),
           (array_agg(i.authorized_minor order by i.created_at desc, i.id desc)
               filter (where i.authorized_minor is not null))[1]
    from intents i
    where i.provider = of_provider and i.account = of_account and i.payment_id = of_payment
      and i.capture_ref <> but_for and i.currency = of_currency
$$;
comment on function captures_beside(text, text, text, text, text) is
    'Minor units asked for by the other captures of a payment, and what was authorised, if one of them says so.';

-- 12.34 in USD: "pass whole minor units: 1234 for 12.34 USD".
create function minor_units_hint(amount numeric, of_currency text) returns text
language plpgsql stable
set search_path from current
as $$
declare
    money currencies%rowtype;
    major numeric;
begin
    select * into money from currencies c where c.code = upper(of_currency);
    -- not (a < b): NaN is above all numbers
    if not found or not (abs(amount) < 1000000000000) then
        return 'pass whole minor units: 1234 for 12.34 USD, 1234 for 1234 JPY';
    end if;
    -- 1998.9999999999998 is what a float makes of 19.99 times 100: minor units already, and no hundredfold of them.
    if abs(amount) >= 1 and abs(amount - round(amount)) < 0.0001 then
        return format('pass %s if that is what is meant; reckon in decimals or whole minor units, never in floats', round(amount));
    end if;
    -- No rounding here: 49.90 JPY is another currency's amount, or nobody's.
    if money.exponent = 0 then
        return format('%s has no decimals: pass the whole amount, 1234 for 1234 %s', money.code, money.code);
    end if;
    major := round(amount, money.exponent);
    return format('pass whole minor units: %s for %s %s', trunc(major * 10::numeric ^ money.exponent), major, money.code)
        || case when major <> amount then '; reckon in decimals, never in floats' else '' end;
end
$$;

-- What is wrong with details: nulls, or the one fault to tell.
create function fault_of_details(details jsonb, out rule text, out why text, out todo text)
language plpgsql immutable
set search_path from current
as $$
declare
    parts   constant text[] := '{company,method,tracking_number}';
    others  constant text[] := '{description,merchant_reference,order_number,po_number}';
    unknown text;
    leaf    jsonb;
    path    text;
    most    int;
begin
    if jsonb_typeof(details) <> 'object' then
        rule := 'intents_details_object';
        why := format('details is a JSON %s, not an object', jsonb_typeof(details));
        todo := 'pass an object such as {"description": "two chairs"}';
        return;
    elsif octet_length(details::text) > 16384 then
        rule := 'intents_details_small';
        why := format('details has %s bytes, more than 16384', octet_length(details::text));
        todo := 'details holds a few short strings that go along with the capture, not the order';
        return;
    elsif jsonb_typeof(details -> 'shipping') <> 'object' or not details -> 'shipping' ?& parts then
        rule := 'intents_details_shipping_complete';
        why := 'details.shipping has not all of company, method and tracking_number';
        todo := 'providers take the three together: give each as a string, or leave shipping out';
        return;
    elsif details - 'shipping' - others <> '{}' or (details -> 'shipping') - parts <> '{}' then
        unknown := coalesce((select k from jsonb_object_keys(details - 'shipping' - others) k limit 1),
                            (select 'shipping.' || k from jsonb_object_keys((details -> 'shipping') - parts) k limit 1));
        rule := 'intents_details_keys_known';
        why := format('details has the unknown key %s', to_json(left(unknown, 60)));
        todo := 'the keys are description, shipping {company, method, tracking_number}, merchant_reference, order_number, '
                'po_number';
        return;
    end if;

    foreach path in array others || '{shipping.company,shipping.method,shipping.tracking_number}' loop
        leaf := details #> string_to_array(path, '.');
        continue when leaf is null;
        most := case path when 'merchant_reference' then 128 else 255 end;
        if jsonb_typeof(leaf) <> 'string'
           or char_length(leaf #>> '{}') not between 1 and most
           -- control and invisible characters; a description may have lines
           or translate(leaf #>> '{}', case path when 'description' then E'\t\n\r' else '' end, '') ~
              '[\u0001-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]' then
            rule := 'intents_details_text';
            why := format('details.%s is not a string of 1 to %s printable characters', path, most);
            todo := format('pass %s as such a string, or leave the key out', path);
            return;
        end if;
    end loop;
end
$$;

-- Runs with the owner's rights: it reads tables that a producer may not. A row that is plainly good costs two or three
-- expressions and one look-up, for starting a statement costs more than what it reads, and each expression is made ready anew in
-- every transaction; among 32 producers, whose backends have forgotten all between two rows, that is most of what a refusal
-- costs where there is none. Whoever is not plainly good is looked at closely, rule by rule; the other captures of a payment
-- are only added up if there are any.
--
-- enable_seqscan: a session keeps the plan that it made while intents was small, which is to read it all, and a bulk insert
-- then reads it all for every row (10,000 rows took 10.3 s; 0.3 s with this).
create function refuse_bad_intent() returns trigger
language plpgsql security definer
set search_path from current
set enable_seqscan = off set jit = off
as $$
declare
    -- control and invisible characters, or a blank at either end
    unprintable constant text := '[\u0001-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]'
        '|^[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]|[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]$';
    rule    text;  -- the constraint that is broken; null: none
    col     text;
    why     text;
    todo    text;
    value   text;
    rules   record;
    beside  record;
    plain   boolean;
begin
    -- Plainly good: nothing to mend, nothing that any rule below would refuse. (What is null here is not plain.)
    plain := num_nulls(new.id, new.account, new.priority, new.created_at) = 0 and new.details = '{}'
        and new.id <> '00000000-0000-0000-0000-000000000000'
        and new.order_id <> '' and new.payment_id <> '' and new.capture_ref <> ''
        and (new.order_id || new.payment_id || new.capture_ref) ~ '^[!-~]+$'
        and char_length(new.order_id || new.payment_id || new.capture_ref) <= 255
        and char_length(new.account) <= 63 and new.account ~ '^[a-z0-9][a-z0-9_-]*$'
        and scale(new.amount_minor) = 0 and new.amount_minor > 0 and new.amount_minor <= 999999999999999
        and new.created_at >= '2000-01-01Z' and new.created_at < '2200-01-01Z';
    if plain and num_nonnulls(new.authorized_minor, new.authorization_expires_at, new.not_before, new.hold, new.traceparent) > 0 then
        plain := (new.authorized_minor is null or scale(new.authorized_minor) = 0 and new.authorized_minor >= new.amount_minor
                  and new.authorized_minor <= 999999999999999)
            and (new.authorization_expires_at is null
                 or new.authorization_expires_at > now() and new.authorization_expires_at < '2200-01-01Z')
            and (new.not_before is null
                 or new.not_before >= '2000-01-01Z' and new.not_before < coalesce(new.authorization_expires_at, '2200-01-01Z'))
            and (new.hold is null or new.hold = 'shipment')
            and (new.traceparent is null
                 or new.traceparent ~ '^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$');
    end if;
    if plain then
        select p.currencies, p.most_decimals, p.least_amount * (array[1, 10, 100, 1000, 10000])[p.most_decimals + 1] as least_minor,
               p.payment_id_pattern,
               exists (select from intents i where i.provider = new.provider and i.account = new.account
                       and i.payment_id = new.payment_id) as has_siblings
        into rules
        from providers p where p.name = new.provider;
        if not rules.has_siblings and (rules.least_minor is null or new.amount_minor >= rules.least_minor)
           and (rules.payment_id_pattern is null or new.payment_id ~ rules.payment_id_pattern) then
            -- A currency that a provider lists is known, and has no more decimals than it takes.
            if new.currency = any (rules.currencies) then
                return new;
            elsif rules.currencies is null and exists (
                select from currencies c where c.code = new.currency and c.exponent <= rules.most_decimals) then
                return new;
            end if;
        end if;
    end if;

    -- Null means "not said": mappers send one for every column that was left alone.
    if new.id is null then new.id := new_id(); end if;
    if new.account is null then new.account := 'default'; end if;
    if new.priority is null then new.priority := 0; end if;
    if new.created_at is null then new.created_at := now(); end if;
    if new.details is null or new.details = 'null' then new.details := '{}'; end if;
    if new.details <> '{}' then new.details := jsonb_strip_nulls(new.details); end if;
    if new.traceparent !~ '^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$' then
        new.traceparent := null;
    end if;

    -- What the row alone tells.
    if num_nulls(nullif(new.provider, ''), nullif(new.order_id, ''), nullif(new.payment_id, ''),
                 nullif(new.capture_ref, ''), new.amount_minor, nullif(new.currency, '')) > 0 then
        -- intents_provider_given, intents_order_id_given, intents_payment_id_given, intents_capture_ref_given,
        -- intents_amount_given, intents_currency_given
        select given.name into col
        from (values (1, 'provider', new.provider), (2, 'order_id', new.order_id), (3, 'payment_id', new.payment_id),
                     (4, 'capture_ref', new.capture_ref), (5, 'amount_minor', new.amount_minor::text),
                     (6, 'currency', new.currency)) given(nth, name, value)
        where coalesce(given.value, '') = '' order by given.nth limit 1;
        rule := format('intents_%s_given', replace(col, '_minor', ''));
        why := format('%s is missing', col);
        todo := format('every intent needs %s: neither null nor empty', col);

    elsif not (char_length(new.order_id) <= 255 and new.order_id !~ unprintable
               and char_length(new.payment_id) <= 255 and new.payment_id !~ unprintable
               and char_length(new.capture_ref) <= 255 and new.capture_ref !~ unprintable) then
        -- intents_order_id_printable, intents_payment_id_printable, intents_capture_ref_printable
        select given.name, given.value into col, value
        from (values (1, 'order_id', new.order_id), (2, 'payment_id', new.payment_id), (3, 'capture_ref', new.capture_ref))
             given(nth, name, value)
        where char_length(given.value) > 255 or given.value ~ unprintable order by given.nth limit 1;
        rule := format('intents_%s_printable', col);
        why := case when char_length(value) > 255
            then format('%s has %s characters, more than 255', col, char_length(value))
            else format('%s %s has a control character, an invisible one, or a blank at an end',
                        col, to_json(left(value, 60))) end;
        todo := format('pass %s as 1 to 255 printable characters, without blanks around them', col);

    elsif new.id = '00000000-0000-0000-0000-000000000000' then
        rule := 'intents_id_not_nil'; col := 'id';
        why := 'id is the nil uuid';
        todo := 'leave id out and the database makes one, or pass new_id()';

    elsif char_length(new.account) > 63 or new.account !~ '^[a-z0-9][a-z0-9_-]*$' then
        rule := 'intents_account_named'; col := 'account';
        why := format('account %s cannot be the name of an account', to_json(left(new.account, 60)));
        todo := 'pass the name that the account has in the worker''s configuration (at most 63 lower-case letters, digits, '
                '- and _), or leave it out for ''default''';

    elsif new.amount_minor <> trunc(new.amount_minor, 0) or new.amount_minor::text in ('NaN', 'Infinity', '-Infinity') then
        rule := 'intents_amount_whole'; col := 'amount_minor';
        why := format('amount_minor %s is not a whole number', left(new.amount_minor::text, 40));
        todo := minor_units_hint(new.amount_minor, new.currency);

    elsif new.amount_minor <= 0 then
        rule := 'intents_amount_positive'; col := 'amount_minor';
        why := format('amount_minor %s is not above zero', left(new.amount_minor::text, 40));
        todo := 'a capture takes money: pass 1 or more';

    elsif new.amount_minor > 999999999999999 then
        rule := 'intents_amount_bounded'; col := 'amount_minor';
        why := format('amount_minor %s is above 999999999999999', left(new.amount_minor::text, 40));
        todo := 'pass minor units: 1234 for 12.34 USD';

    elsif new.authorized_minor <> trunc(new.authorized_minor, 0)
          or new.authorized_minor::text in ('NaN', 'Infinity', '-Infinity') then
        rule := 'intents_authorized_whole'; col := 'authorized_minor';
        why := format('authorized_minor %s is not a whole number', left(new.authorized_minor::text, 40));
        todo := minor_units_hint(new.authorized_minor, new.currency);

    elsif new.authorized_minor > 999999999999999 then
        rule := 'intents_authorized_bounded'; col := 'authorized_minor';
        why := format('authorized_minor %s is above 999999999999999', left(new.authorized_minor::text, 40));
        todo := 'pass minor units: 1234 for 12.34 USD; leave it out if it is not known';

    elsif new.authorized_minor < new.amount_minor then
        rule := 'intents_authorized_covers_amount'; col := 'authorized_minor';
        why := format('authorized_minor %s is less than amount_minor %s', left(new.authorized_minor::text, 30), new.amount_minor);
        todo := 'authorized_minor is what was authorised in all, in minor units; leave it out if it is not known';

    elsif new.authorization_expires_at < '2000-01-01Z' or new.authorization_expires_at >= '2200-01-01Z' then
        rule := 'intents_deadline_plausible'; col := 'authorization_expires_at';
        why := format('authorization_expires_at %s is not between 2000 and 2200', new.authorization_expires_at);
        todo := 'were milliseconds taken for seconds? leave it out if it is not known';

    elsif new.not_before < '2000-01-01Z' or new.not_before >= '2200-01-01Z' then
        rule := 'intents_not_before_plausible'; col := 'not_before';
        why := format('not_before %s is not between 2000 and 2200', new.not_before);
        todo := 'were milliseconds taken for seconds? leave it out to capture at once';

    elsif new.not_before >= new.authorization_expires_at then
        rule := 'intents_not_before_within_deadline'; col := 'not_before';
        why := format('not_before %s is not before authorization_expires_at %s', new.not_before, new.authorization_expires_at);
        todo := 'nothing is sent once the authorisation has ended: schedule the capture earlier';

    elsif new.created_at < '2000-01-01Z' or new.created_at >= '2200-01-01Z' then
        rule := 'intents_created_at_plausible'; col := 'created_at';
        why := format('created_at %s is not between 2000 and 2200', new.created_at);
        todo := 'leave it out: the database sets it';

    elsif new.hold <> 'shipment' then
        rule := 'intents_hold_known'; col := 'hold';
        why := format('hold %s is not known', to_json(left(new.hold, 60)));
        todo := 'pass ''shipment'' to wait for a release, or leave it out to capture at once';

    elsif new.details <> '{}' then
        col := 'details';
        select f.rule, f.why, f.todo into rule, why, todo from fault_of_details(new.details) f;
    end if;

    -- What the provider takes, the day, and what is asked for on the payment already.
    if rule is null then
        select p.currencies, p.most_decimals, p.least_amount, p.payment_id_pattern, p.payment_id_is, c.exponent,
               trunc(p.least_amount * (array[1, 10, 100, 1000, 10000])[c.exponent + 1], 0) as least_minor,
               exists (select from intents i where i.provider = new.provider and i.account = new.account
                       and i.payment_id = new.payment_id) as has_siblings
        into rules
        from providers p left join currencies c on c.code = new.currency
        where p.name = new.provider;

        if not found then
            rule := 'intents_provider_known'; col := 'provider';
            why := format('provider %s is not known', to_json(left(new.provider, 60)));
            todo := (select format('pass one of: %s', string_agg(p.name, ', ' order by p.name)) from providers p);

        elsif rules.exponent is null then
            rule := 'intents_currency_known'; col := 'currency';
            why := format('currency %s is no ISO 4217 code', to_json(left(new.currency, 60)));
            todo := coalesce((select format('write %s', c.code) from currencies c where c.code = upper(btrim(new.currency))),
                             'pass three capital letters, such as USD');

        elsif rules.exponent > rules.most_decimals or new.currency <> all (rules.currencies) then
            rule := 'intents_currency_of_provider'; col := 'currency';
            why := format('%s does not take %s', new.provider, new.currency);
            todo := 'it takes ' || coalesce(array_to_string(rules.currencies, ', '),
                                            format('currencies of at most %s decimals', rules.most_decimals));

        elsif new.amount_minor < rules.least_minor then
            rule := 'intents_amount_of_provider'; col := 'amount_minor';
            why := format('%s captures no less than %s %s', new.provider, rules.least_amount, new.currency);
            todo := format('pass at least %s minor units', rules.least_minor);

        elsif new.payment_id !~ rules.payment_id_pattern then
            rule := 'intents_payment_id_of_provider'; col := 'payment_id';
            why := format('payment_id %s cannot be one of %s', to_json(left(new.payment_id, 60)), new.provider);
            todo := format('pass %s', rules.payment_id_is);

        elsif new.authorization_expires_at <= now() then
            rule := 'intents_deadline_ahead'; col := 'authorization_expires_at';
            why := format('the authorisation ended at %s', new.authorization_expires_at);
            todo := 'the money can no longer be captured: have the payment authorised anew';

        elsif rules.has_siblings then
            select b.asked_minor + new.amount_minor as would_be, coalesce(new.authorized_minor, b.authorized_minor) as authorized
            into beside
            from captures_beside(new.provider, new.account, new.payment_id, new.currency, new.capture_ref) b;
            if beside.would_be > beside.authorized then
                rule := 'intents_within_authorized'; col := 'amount_minor';
                why := format('with this %s the captures of the payment come to %s, and %s is authorised',
                              new.amount_minor, beside.would_be, beside.authorized);
                todo := format('at most %s minor units are left; if more was authorised since, pass the new authorized_minor',
                               greatest(beside.authorized - beside.would_be + new.amount_minor, 0));
            end if;
        end if;

        -- A repeat of a row that was good in its day is for the unique index to judge: it must stay harmless.
        if rule in ('intents_deadline_ahead', 'intents_within_authorized') and exists (
            select from intents i
            where i.provider = new.provider and i.account = new.account
              and i.payment_id = new.payment_id and i.capture_ref = new.capture_ref) then
            rule := null;
        end if;
    end if;

    if rule is not null then
        raise exception using errcode = 'check_violation', message = why, hint = todo,
            schema = tg_table_schema, table = tg_table_name, constraint = rule, column = col;
    end if;

    -- 1234.00 is 1234: one way to write it, in events, bodies and hashes alike.
    if scale(new.amount_minor) > 0 then new.amount_minor := trunc(new.amount_minor, 0); end if;
    if scale(new.authorized_minor) > 0 then new.authorized_minor := trunc(new.authorized_minor, 0); end if;
    return new;
end
$$;
comment on function refuse_bad_intent() is
    'Refuses a bad row of intents inside the transaction that inserts it, with SQLSTATE 23514, the broken rule and a hint.';

create trigger refuse_bad_intent before insert on intents
    for each row execute function refuse_bad_intent();

-- For everybody, the owner too: what was asked for stays on record as it was asked. (Row triggers do not see TRUNCATE; a
-- superuser who means it can disable the trigger.)
create function refuse_change_of_intent() returns trigger
language plpgsql
set search_path from current
as $$
begin
    raise exception using errcode = 'object_not_in_prerequisite_state',
        message = format('intents are never changed or removed (%s)', lower(tg_op)),
        hint = 'to ask for another amount insert another intent; to withdraw one call cancel(); to repeat an insert use '
               'on conflict do nothing, or enqueue()',
        schema = tg_table_schema, table = tg_table_name, constraint = 'intents_never_change';
end
$$;
comment on function refuse_change_of_intent() is
    'Refuses UPDATE, DELETE and TRUNCATE of intents with SQLSTATE 55000.';

create trigger intents_never_change before update or delete or truncate on intents
    for each statement execute function refuse_change_of_intent();


-- Asking --------------------------------------------------------------------------------------------------------------

-- The insert comes first and the look after it: of two transactions that ask for the same at once, the second waits for the
-- first in the unique index; then a new statement has a new snapshot (READ COMMITTED) and sees what the first committed.
-- Under REPEATABLE READ the snapshot is old and Postgres raises 40001 itself: run the transaction again.
--
-- One parameter list, for ever; parameters are only appended, with defaults. Theirs are the column names, hence
-- enqueue.x for a parameter and i.x for a column. priority is a bigint because 5 is an integer, which fits no smallint.
-- traceparent and id do not count as content: a repeat comes in another trace and may come with a fresh id.
create function enqueue(
    provider                 text,
    order_id                 text,
    payment_id               text,
    capture_ref              text,
    amount_minor             numeric,
    currency                 text,
    account                  text default 'default',
    authorized_minor         numeric default null,
    authorization_expires_at timestamptz default null,
    hold                     text default null,
    not_before               timestamptz default null,
    priority                 bigint default 0,
    details                  jsonb default '{}',
    traceparent              text default null,
    inout id                 uuid default null,
    out created              boolean)
language plpgsql volatile
set search_path from current
as $$
declare
    asked_id constant uuid := enqueue.id;
    before   intents%rowtype;
    differs  text[];
begin
    -- null means "not said", as in the table
    account := coalesce(account, 'default');
    priority := coalesce(priority, 0);
    details := jsonb_strip_nulls(coalesce(nullif(details, 'null'), '{}'));

    if priority not between -32768 and 32767 then
        raise exception using errcode = 'check_violation',
            message = format('priority %s is out of range', priority),
            hint = 'pass -32768 (first) to 32767 (last); 0 if it does not matter',
            schema = current_schema(), table = 'intents', constraint = 'intents_priority_small', column = 'priority';
    end if;

    insert into intents as i (
        id, provider, account, order_id, payment_id, capture_ref, amount_minor, currency, authorized_minor,
        authorization_expires_at, hold, not_before, priority, details, traceparent)
    values (
        asked_id, enqueue.provider, enqueue.account, enqueue.order_id, enqueue.payment_id, enqueue.capture_ref,
        enqueue.amount_minor, enqueue.currency, enqueue.authorized_minor, enqueue.authorization_expires_at, enqueue.hold,
        enqueue.not_before, enqueue.priority, enqueue.details, enqueue.traceparent)
    on conflict do nothing
    returning i.id into enqueue.id;
    created := found;
    if created then
        return;
    end if;

    select i.* into before
    from intents i
    where i.provider = enqueue.provider and i.account = enqueue.account
      and i.payment_id = enqueue.payment_id and i.capture_ref = enqueue.capture_ref;
    if not found then
        raise exception using errcode = 'unique_violation',
            message = format('id %s belongs to another intent', asked_id),
            hint = 'leave id out and the database makes one, or pass new_id()',
            schema = current_schema(), table = 'intents', constraint = 'intents_pkey', column = 'id';
    end if;

    differs := array_remove(array[
        case when before.order_id is distinct from enqueue.order_id then 'order_id' end,
        case when before.amount_minor is distinct from enqueue.amount_minor then 'amount_minor' end,
        case when before.currency is distinct from enqueue.currency then 'currency' end,
        case when before.authorized_minor is distinct from enqueue.authorized_minor then 'authorized_minor' end,
        case when before.authorization_expires_at is distinct from enqueue.authorization_expires_at
             then 'authorization_expires_at' end,
        case when before.hold is distinct from enqueue.hold then 'hold' end,
        case when before.not_before is distinct from enqueue.not_before then 'not_before' end,
        case when before.priority is distinct from enqueue.priority then 'priority' end,
        case when before.details is distinct from enqueue.details then 'details' end], null);
    if differs <> '{}' then
        raise exception using errcode = 'unique_violation',
            message = format('capture_ref %s of this payment is taken by an intent with other content: %s',
                             to_json(left(enqueue.capture_ref, 60)), array_to_string(differs, ', ')),
            detail = format('The intent is %s.', before.id),
            hint = 'an intent never changes: repeat it with the same content, or take a new capture_ref for another capture',
            schema = current_schema(), table = 'intents', constraint = 'intents_capture_ref_unique', column = differs[1];
    end if;
    id := before.id;
end
$$;
comment on function enqueue(text, text, text, text, numeric, text, text, numeric, timestamptz, text, timestamptz, bigint, jsonb, text, uuid) is
    'Asks for a capture, in your transaction; the parameters are the columns of intents. Gives the intent''s id, and whether it
was created: the same capture_ref with the same content gives the old id and false, with other content raises 23505.
Whole minor units (an integer or a decimal; a float has no function to go to). Under REPEATABLE READ or SERIALIZABLE a
repeat that another transaction has just committed raises 40001: run the transaction again.';

-- SQLSTATE 22P02: this is no document; 22023: a key or the type of its value is wrong. What the values may be is for the
-- table to say.
create function enqueue_json(doc text) returns table (id uuid, created boolean)
language plpgsql volatile
set search_path from current
as $$
declare
    known constant text[] := '{provider,order_id,payment_id,capture_ref,amount_minor,currency,account,authorized_minor,'
        'authorization_expires_at,hold,not_before,priority,details,traceparent,id}';
    given      jsonb;
    field      text;
    said       jsonb;
    wants      text;
    rule       text := 'intents_document_readable';
    state      text := '22P02';
    why        text;
    todo       text;
    expires_at timestamptz;
    starts_at  timestamptz;
begin
    if doc is null or octet_length(doc) > 65536 then
        why := coalesce(format('the document has %s bytes, more than 65536', octet_length(doc)), 'the document is null');
        todo := 'pass one JSON object whose keys are the columns of intents';
    else
        begin
            given := doc;
            if jsonb_typeof(given) <> 'object' then
                why := format('the document is a JSON %s, not an object', jsonb_typeof(given));
                todo := 'pass one JSON object whose keys are the columns of intents; one document, one intent';
            else
                -- jsonb keeps the last of two equal keys; which of two amounts was meant is not ours to say
                select k.name into field from json_object_keys(doc::json) k(name) group by k.name having count(*) > 1 limit 1;
                if found then
                    rule := 'intents_document_keys_known'; state := '22023';
                    why := format('the key %s is given twice', to_json(left(field, 60)));
                    todo := 'give each key once';
                end if;
            end if;

            if why is null then
                for field, said in select g.key, g.value from jsonb_each(given) g loop
                    if field <> all (known) then
                        rule := 'intents_document_keys_known'; state := '22023';
                        why := format('the key %s is not known', to_json(left(field, 60)));
                        todo := case field when 'created_at' then 'leave it out: the database sets it' else
                            -- the known key that shares most pairs of letters, if it shares half of them
                            coalesce((select format('did you mean %s? ', k)
                                      from unnest(known) k,
                                           lateral (select count(*) as shared from generate_series(1, length(k) - 1) at
                                                    where strpos(lower(left(field, 60)), substr(k, at, 2)) > 0) pairs
                                      where pairs.shared * 2 >= least(length(k), length(field)) - 1
                                      order by pairs.shared desc, length(k) limit 1), '')
                            || 'the keys are ' || array_to_string(known, ', ') end;
                    elsif jsonb_typeof(said) = 'null' then
                        continue;
                    elsif field in ('amount_minor', 'authorized_minor') then
                        if jsonb_typeof(said) <> 'number' and said #>> '{}' !~ '^-?[0-9]{1,40}(\.[0-9]{1,40})?$' then
                            wants := 'whole minor units, such as 1234 for 12.34 USD';
                        end if;
                    elsif field = 'priority' then
                        if jsonb_typeof(said) <> 'number' or (said #>> '{}')::numeric not between -32768 and 32767
                           or said #>> '{}' ~ '\.' then
                            wants := 'a whole number from -32768 to 32767';
                        end if;
                    elsif field = 'details' then
                        if jsonb_typeof(said) <> 'object' then
                            wants := 'an object, such as {"description": "two chairs"}';
                        end if;
                    elsif field in ('authorization_expires_at', 'not_before') then
                        wants := 'an RFC 3339 time with its offset, such as "2026-11-30T18:00:00Z"';
                        if said #>> '{}' ~* '^\d{4}-\d\d-\d\d[t ]\d\d:\d\d:\d\d(\.\d+)?(z|[+-]\d\d:\d\d)$' then
                            -- the thirtieth of February raises, and wants stays
                            if field = 'not_before' then starts_at := said #>> '{}'; else expires_at := said #>> '{}'; end if;
                            wants := null;
                        end if;
                    elsif jsonb_typeof(said) <> 'string' then
                        wants := 'a string';
                    elsif field = 'id' then
                        if said #>> '{}' !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then wants := 'a uuid'; end if;
                    end if;
                    exit when coalesce(why, wants) is not null;
                end loop;
            end if;
        exception
            when data_exception or program_limit_exceeded then
                if wants is null then
                    why := case
                        when sqlstate = '22P05' then 'the document has the character \u0000'
                        when sqlstate = '22003' then 'the document has a number out of all range'
                        when sqlstate like '54%' then 'the document is nested too deep'
                        else 'the document is not valid JSON' end;
                    todo := case
                        when sqlstate = '22P05' then 'take it out: Postgres cannot keep it'
                        else 'pass one JSON object whose keys are the columns of intents' end;
                end if;
        end;
    end if;

    if wants is not null then
        rule := 'intents_document_types'; state := '22023';
        why := format('%s is %s', field, case jsonb_typeof(said)
            when 'string' then to_json(left(said #>> '{}', 60))::text
            when 'number' then 'the number ' || left(said #>> '{}', 40)
            else 'a JSON ' || jsonb_typeof(said) end);
        todo := format('pass %s as %s', field, wants);
    end if;
    if why is not null then
        raise exception using errcode = state, message = why, hint = todo,
            schema = current_schema(), table = 'intents', constraint = rule,
            column = case when field = any (known) then field else '' end;
    end if;

    return query select e.id, e.created from enqueue(
        provider => given ->> 'provider',
        order_id => given ->> 'order_id',
        payment_id => given ->> 'payment_id',
        capture_ref => given ->> 'capture_ref',
        amount_minor => (given ->> 'amount_minor')::numeric,
        currency => given ->> 'currency',
        account => given ->> 'account',
        authorized_minor => (given ->> 'authorized_minor')::numeric,
        authorization_expires_at => expires_at,
        hold => given ->> 'hold',
        not_before => starts_at,
        priority => (given ->> 'priority')::bigint,
        details => given -> 'details',
        traceparent => given ->> 'traceparent',
        id => (given ->> 'id')::uuid) e;
end
$$;
comment on function enqueue_json(text) is
    'enqueue() for a JSON document whose keys are the columns of intents: amounts as numbers or strings of digits, times as
RFC 3339 with an offset. Unknown and doubled keys are refused.';

revoke all on function
    new_id(),
    captures_beside(text, text, text, text, text),
    minor_units_hint(numeric, text),
    fault_of_details(jsonb),
    refuse_bad_intent(),
    refuse_change_of_intent(),
    enqueue(text, text, text, text, numeric, text, text, numeric, timestamptz, text, timestamptz, bigint, jsonb, text, uuid),
    enqueue_json(text)
from public;
