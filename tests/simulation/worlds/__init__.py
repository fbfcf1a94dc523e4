"""Small worlds, explored in every order: the rules themselves, and around them the smallest faithful server.

A world is a log, agents, coordinators and clients with budgets of faults. `Explorer` visits every state that
any order of their steps can lead to, breadth first, and tells the shortest story of a state that must not be.
What is decided is decided by `fleetlog.bus.core` itself; only who acts when is chosen here.

    histories   what the log holds of each thing; the real `evolve` runs once for each distinct history
    reading     what every history must be like, written without `evolve`
    outcomes    what must hold between a barrier, its members and its continuation
    server      how the server takes an append
    writers     how whoever appends learns what became of it
    cell        one task: its history, its offers, who holds what of it
    agents      what agents and clients do to one task, each step by itself
    folds       the coordinators' folds: the real `Unsettled` and `Joiner`, each of their states once
    seats       what coordinators do
    modes       what befalls agents
    beginning   how large a world is, and what is there at first
    world       all of it together: the steps that a state allows
    explorer    breadth first; whether all settles once faults stop
    planted     bugs that the worlds must show

What is left out, as it makes no difference to what is stored: a lost request (it goes again, like a late
one), an append that is sure to be refused (whoever is refused reads the log anew, now or later), and which of
several that are alike acts. Time is left out too: whatever had to wait may have waited long enough.

What these worlds do not tell of: fan-outs within fan-outs, limits, budgets and schedules, more than one
barrier, and members too large for an event. A page of the log has one order of what different things did; a
coordinator's append is settled as soon as it is sent. That everything settles once faults stop is checked only
of worlds that were explored to their end, and means that it can, by some order of steps, from every state.
"""
