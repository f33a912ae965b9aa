-- The keys of the HTTP API. Of the secret only a digest is kept; a key is found by its prefix, which is no secret.
create table api_keys (
    prefix text primary key constraint api_keys_prefix_form check (prefix ~ '^[0-9a-f]{8}$'),
    name text not null constraint api_keys_name_form check (name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]{0,59}$'),
    digest bytea not null constraint api_keys_digest_is_sha256 check (octet_length(digest) = 32),
    scopes text[] not null constraint api_keys_scopes_known check (
        scopes <> '{}' and scopes <@ array['read', 'enqueue', 'release', 'cancel', 'operate', 'lanes', 'ship', 'webhooks']),
    created_by text not null,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    -- coarse: see note_api_key_use
    last_used_at timestamptz
);
create index api_keys_name on api_keys (name);

-- Makes a key. With p_grace it follows the live key of that name: it takes over the scopes, and the old one ends after the
-- grace. At most two of a name are live, so a rotation that was begun is ended before the next.
create function create_api_key(
    p_prefix text, p_name text, p_digest bytea, p_scopes text[], p_lifetime interval, p_grace interval, p_actor text, p_reason text)
    returns table (scopes text[], expires_at timestamptz)
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_now timestamptz := clock_now();
    v_live integer;
    v_old api_keys;
begin
    -- People make keys, a few a year: one after the other. It does not wait for who reads them.
    lock table api_keys in share row exclusive mode;
    select count(*) into v_live from api_keys k
        where k.name = p_name and k.revoked_at is null and (k.expires_at is null or k.expires_at > v_now);
    if p_grace is null and lower(p_name) in ('capture', 'proxy', 'worker') then
        raise exception using errcode = 'check_violation', message = format('no key has the name %s', to_json(p_name)),
            hint = 'acts are told by the key''s name, and by this one those of capture itself, of its workers or of who comes through a proxy: choose another',
            schema = current_schema(), table = 'api_keys', constraint = 'api_keys_name_free', column = 'name';
    end if;
    if p_grace is null and v_live > 0 then
        raise exception using errcode = 'unique_violation', message = format('the name %s has a live key', to_json(p_name)),
            hint = 'rotate that key, revoke it, or choose another name: acts are told by the key''s name',
            schema = current_schema(), table = 'api_keys', constraint = 'api_keys_name_unique', column = 'name';
    elsif p_grace is not null and v_live = 0 then
        raise exception using errcode = 'no_data_found', message = format('the name %s has no live key', to_json(p_name)),
            hint = 'create one', schema = current_schema(), table = 'api_keys', constraint = 'api_keys_name_live', column = 'name';
    elsif v_live > 1 then
        raise exception using errcode = 'object_not_in_prerequisite_state',
            message = format('two keys of the name %s are live', to_json(p_name)),
            hint = 'revoke the older one, or wait until it ends',
            schema = current_schema(), table = 'api_keys', constraint = 'api_keys_two_live_at_most', column = 'name';
    end if;
    if p_grace is not null then
        update api_keys k set expires_at = least(k.expires_at, v_now + p_grace)
            where k.name = p_name and k.revoked_at is null and (k.expires_at is null or k.expires_at > v_now)
            returning k.* into v_old;
    end if;
    insert into api_keys as k (prefix, name, digest, scopes, created_by, created_at, expires_at)
        values (p_prefix, p_name, p_digest, coalesce(v_old.scopes, p_scopes), p_actor, v_now, v_now + p_lifetime)
        returning k.scopes, k.expires_at into create_api_key.scopes, create_api_key.expires_at;
    insert into audit (at, actor, action, reason, detail) values (
        v_now, p_actor, case when p_grace is null then 'key create' else 'key rotate' end, p_reason,
        jsonb_strip_nulls(jsonb_build_object('key', p_prefix, 'name', p_name, 'scopes', create_api_key.scopes,
            'expires_at', create_api_key.expires_at, 'replaces', v_old.prefix, 'old_ends_at', v_old.expires_at)));
    return next;
end $$;

-- 'revoked', 'ended' (it was revoked or over before) or 'not_found'.
create function revoke_api_key(p_prefix text, p_actor text, p_reason text) returns text
    language plpgsql volatile security definer set search_path from current as $$
declare
    v_now timestamptz := clock_now();
    v_name text;
begin
    update api_keys k set revoked_at = v_now
        where k.prefix = p_prefix and k.revoked_at is null and (k.expires_at is null or k.expires_at > v_now)
        returning k.name into v_name;
    if not found then
        return case when exists (select from api_keys k where k.prefix = p_prefix) then 'ended' else 'not_found' end;
    end if;
    insert into audit (at, actor, action, reason, detail)
        values (v_now, p_actor, 'key revoke', p_reason, jsonb_build_object('key', p_prefix, 'name', v_name));
    return 'revoked';
end $$;

-- When a key was used last, to the minute: a write for every request would cost more than most requests.
create function note_api_key_use(p_prefix text) returns void
    language sql volatile security definer set search_path from current as $$
    update api_keys set last_used_at = clock_now()
        where prefix = p_prefix and (last_used_at is null or last_used_at < clock_now() - interval '1 minute')
$$;

revoke all on function
    create_api_key(text, text, bytea, text[], interval, interval, text, text),
    revoke_api_key(text, text, text),
    note_api_key_use(text)
from public;

-- Sessions of the console: each was begun with a key and opens what the key opens, as long as the key does. The cookie's
-- secret is not kept, only its digest.
create table console_sessions (
    digest bytea primary key constraint console_sessions_digest_is_sha256 check (octet_length(digest) = 32),
    key text not null references api_keys (prefix),
    began_at timestamptz not null,
    expires_at timestamptz not null,
    -- to the minute: see use_console_session
    used_at timestamptz not null
);
create index console_sessions_expires on console_sessions (expires_at);

-- Begins a session, and forgets some that are over.
create function begin_console_session(p_digest bytea, p_key text, p_lifetime interval) returns void
    language sql volatile security definer set search_path from current as $$
    delete from console_sessions s where s.digest in (
        select o.digest from console_sessions o where o.expires_at < clock_now() order by o.expires_at limit 100 for update skip locked);
    insert into console_sessions (digest, key, began_at, expires_at, used_at)
        values (p_digest, p_key, clock_now(), clock_now() + p_lifetime, clock_now());
$$;

-- Says that a person is there; at most one write a minute.
create function use_console_session(p_digest bytea) returns void
    language sql volatile security definer set search_path from current as $$
    update console_sessions set used_at = clock_now()
        where digest = p_digest and used_at < clock_now() - interval '1 minute'
$$;

create function end_console_session(p_digest bytea) returns void
    language sql volatile security definer set search_path from current as $$
    delete from console_sessions where digest = p_digest
$$;

revoke all on function
    begin_console_session(bytea, text, interval), use_console_session(bytea), end_console_session(bytea)
from public;
