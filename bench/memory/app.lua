-- SPDX-License-Identifier: Apache-2.0
-- What Apache serves in the guests of bench/memory. What is not local to a function lives as long as the worker does.

local BLOCK, PAGE, TOUCHED = 64 * 1024, 4096, 16
local blocks, turn = {}, 0
local page = string.rep("page of an application, ", PAGE):sub(1, PAGE)

-- GET /app?MIB: the worker has an application of so many MiB, and a request reads 1 MiB of it, here and there.
function serve(r)
	local wanted = (tonumber(r.args) or 1) * 1024 * 1024 // BLOCK
	while #blocks < wanted do
		blocks[#blocks + 1] = string.rep(page, BLOCK // PAGE)
	end
	local sum = 0
	for _ = 1, TOUCHED do
		turn = (turn * 5 + 7919) % 65536
		local block = blocks[turn % #blocks + 1]
		for at = 1, BLOCK, PAGE do
			sum = sum + block:byte(at)
		end
	end
	r.content_type = "text/plain"
	r:puts(sum, "\n")
	return apache2.OK
end

-- GET /status: what the kernel says of its memory, "name number" a line.
function status(r)
	r.content_type = "text/plain"
	for _, file in ipairs({ "/proc/meminfo", "/proc/vmstat" }) do
		for line in io.lines(file) do
			local name, number = line:match("^([%w_()]+):? +(%d+)")
			if name then
				r:puts(name, " ", number, "\n")
			end
		end
	end
	return apache2.OK
end
