-- Publishes events that nobody asked for, with ids of their own, as CloudEvents in binary mode.
local prefix, count, headers = "", 0, {}

function init(arguments)
  prefix = arguments[1] or ""
  headers = {
    ["content-type"] = "application/json",
    ["ce-specversion"] = "1.0",
    ["ce-source"] = "/bench",
    ["ce-type"] = "bench.logged",
  }
end

function request()
  count = count + 1
  headers["ce-id"] = prefix .. "-" .. count
  return wrk.format("POST", nil, headers, '{"total": 42}')
end
