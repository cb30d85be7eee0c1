-- Publishes events with ids of their own: one as a CloudEvent in binary mode, or several as a batch.
-- Its argument: events in a request, bytes of an event's data, a prefix of the ids.
local batch, prefix, count, headers, data = 1, "", 0, {}, ""

function init(arguments)
  local size
  batch, size, prefix = arguments[1]:match("^(%d+):(%d+):(.*)$")
  batch = tonumber(batch)
  prefix = prefix:gsub("[^%w-]", "-")
  data = '"' .. string.rep("x", tonumber(size) - 2) .. '"'
  if batch > 1 then
    headers = { ["content-type"] = "application/cloudevents-batch+json" }
    return
  end
  headers = {
    ["content-type"] = "application/json",
    ["ce-specversion"] = "1.0",
    ["ce-source"] = "/bench",
    ["ce-type"] = "bench.happened",
  }
end

function request()
  if batch == 1 then
    count = count + 1
    headers["ce-id"] = prefix .. "-" .. count
    return wrk.format("POST", nil, headers, data)
  end
  local events = {}
  for place = 1, batch do
    count = count + 1
    events[place] = '{"specversion":"1.0","source":"/bench","type":"bench.happened","id":"'
      .. prefix .. "-" .. count .. '","data":' .. data .. "}"
  end
  return wrk.format("POST", nil, headers, "[" .. table.concat(events, ",") .. "]")
end
