-- wrk: POST the body in the file BODY, whose JSON part has HEADER_BYTES bytes (0: all of it is JSON).
local file = io.open(os.getenv("BODY"), "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
local size = os.getenv("HEADER_BYTES")
if size ~= "0" then
  wrk.headers["Inference-Header-Content-Length"] = size
  wrk.headers["Content-Type"] = "application/octet-stream"
else
  wrk.headers["Content-Type"] = "application/json"
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT {\"requests\": %d, \"seconds\": %.6f, \"p50_us\": %d, \"p99_us\": %d, \"status\": %d, \"socket\": %d}\n",
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
