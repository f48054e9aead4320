# %% [markdown]
# # Appendix · The guide behind these labs, block by block
#
# **40 minutes** · needs this kit with its extra `agents`; no network, no GPU, no account. What needs a package that is
# not here says so and is left out
#
# These labs began with three documents: a guide to agents on small models (000), an appendix on their deployment (003)
# and a plan for training with Agent Lightning (004). They hold 75 blocks of code and five tables of figures. Such texts
# are everywhere: well ordered, confident, and partly made up. This appendix looks at every block, and shows you how to
# look at the next such text yourself.
#
# You will be able to
#
# - test in a minute whether what a text imports exists
# - tell code that runs from code that does what its heading says
# - recompute a table's figures and find the assumption that it hides
#
# The guide's text is not in this kit: the headings and reasons below are our own words, and each block is known by the
# first digits of its hash. Verdicts are those of November 2026; what the machine sees, it sees **now**, on yours.

# %%
from labkit.checks.appendix import q1, q2, q3
from labkit.classroom.source_guide import Guide, blocks, examine

# %% [markdown]
# ## 1 · Does it exist?
#
# **Predict**: of the 36 blocks in the guide, how many will run as they are written?
#
# The first test of a text costs nothing: does what it imports exist? Many texts name a module after the product, and
# nobody ever published one under that name.
#
# ### Exercise 1
#
# Write `there(module, name)`: True if the module can be imported and has the name, False if not. It must not raise.

# %%
from importlib import import_module


### BEGIN SOLUTION
def there(module, name):
    try:
        return hasattr(import_module(module), name)
    except ImportError:
        return False


### END SOLUTION
q1.check(there)

# %%
# q1.hint()
# q1.solution()

# %% [markdown]
# Here is what this kit's own version of it, and some lines of code, find about one block:

# %%
block = next(block for block in blocks() if block.id == "000-24")
print(block.heading, block.why, *examine(block), sep="\n")

# %% [markdown]
# ✓ is a claim of the table that holds on this machine, ✗ one that does not (tell us), ○ one that could not be tested.
#
# Now the whole guide. Open a line to see why, what works now, and what your machine saw. It takes a while: what can be
# run is run, a cluster of three nodes and a gateway among it.

# %%
Guide("000: agents on small models", [block for block in blocks() if block.id.startswith("000")])

# %% [markdown]
# **Read the verdicts.** *Runs as written*: it does what its heading says, if the files and servers are there. *Does not
# exist any more*: it is about something that today's packages do not have; whether they ever had is not said. *Works
# like this now*: there is a way, and it is another one. Most blocks are of this kind. The ideas are sound: health
# checks, routers, tools that work offline. It is the code that fails.
#
# ## 2 · Does it do what it says?
#
# An appendix on deployment is harder to doubt: most of what it names exists. What is wrong there hides in code that
# runs: a stream that closes before it is read, a cache that calls itself semantic, a secret that is the text of a
# command.
#
# **Predict**: which of these two will a test find more easily, code that cannot be imported, or code that runs and does
# something else?

# %%
Guide(
    "003: deployment, its code",
    [block for block in blocks() if block.id.startswith("003") and block.kind != "table"],
)

# %% [markdown]
# **Read the count.** Nothing is gone, and still most blocks do not do what they say. No import finds that; somebody
# must look at what comes out. Take 003-27, which trims a long conversation. It walks from the newest message back and
# keeps each one that still fits. One that does not fit is skipped, and the walk goes on.
#
# ### Exercise 2
#
# Break it: give the sizes of messages, the oldest first, so that with room for 50 tokens the result has a hole.

# %%
### BEGIN SOLUTION
sizes = [10, 90, 10]
### END SOLUTION
q2.check(sizes)

# %%
# q2.hint()
# q2.solution()

# %% [markdown]
# ## 3 · Where is that number from?
#
# Five tables. A figure without a source is a claim; a figure whose unit is not defined is not even that.

# %%
Guide("003: its tables", [block for block in blocks() if block.kind == "table"])

# %% [markdown]
# Look at the table of costs. Its sums are right:

# %%
from labkit.deploy.cost import GUIDE, GUIDE_DEMAND, GUIDE_PRICES, Bills, fixed, hpa, hybrid, serverless

Bills(GUIDE, title="The table of 003, quoted")

# %% [markdown]
# The elastic part is what grows with use: tokens of a cloud model, mostly. So compare the first two rows.
#
# ### Exercise 3
#
# By how many percent is the elastic part of the second row smaller than that of the first?

# %%
### BEGIN SOLUTION
fewer = 100 * (1 - GUIDE[1].elastic / GUIDE[0].elastic)
### END SOLUTION
q3.check(fewer)

# %%
# q3.hint()
# q3.solution()

# %% [markdown]
# Why should the same users need so many tokens fewer because replicas come and go? Here is one demand that makes the
# first row exactly, at quoted prices of a cloud model, with all inputs below it. **Predict** the other three rows:

# %%
from labkit.metrics.cost import Box

demand, prices, box = GUIDE_DEMAND, GUIDE_PRICES, Box()
ways = (
    fixed(demand, prices),
    hpa(demand, prices),
    serverless(demand, prices),
    hybrid(demand, prices, box, 0.4),
)
Bills(ways, (demand, prices, box), "The same requests, four ways")

# %% [markdown]
# **Read the elastic column.** Autoscaling saves replicas, and can save no more than replicas cost: here that is little,
# since most of the bill is tokens. What saves tokens is a box of one's own that answers some of the requests, and that
# is the last row. The guide's advice may still be right; its table is no reason to believe it. A table of your own is
# one: put your numbers from lab 20 in the place of `GUIDE_DEMAND`'s.
#
# ## 4 · The plan for training
#
# Agent Lightning 1.x is a new program under an old name. A plan written for what came before, or for what its author
# thought it to be, cannot be mended line by line. `labkit.training.lightning` works with what is there now.

# %%
Guide("004: a plan for Agent Lightning", [block for block in blocks() if block.id.startswith("004")])

# %% [markdown]
# **Read the lines that say "read, not tested".** No machine here can install a driver for a GPU or pull an image. Where
# the table knows a thing only from documents, it says from which: that is how far you can trust it.
#
# ## Recap
#
# You can now
#
# - test in a minute whether what a text imports exists
# - tell code that runs from code that does what its heading says
# - recompute a table's figures and find the assumption that it hides
#
# **Next**: take a text on agents that you like, this course too, and do the same to it.

# %%
from labkit.testing import finish

finish()
